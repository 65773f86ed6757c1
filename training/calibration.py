"""How far p(like) and p(skip) may be taken at their word, on songs that were played.

Reliability: the songs are put into `BINS` bins of (nearly) equal size by what was said of them;
equal predictions stay together. A bin compares the mean of what was said with the share it
happened to. The expected calibration error (ECE) is the mean distance of the two, weighted by the
bins' songs. Even a perfectly calibrated model has an ECE above zero, since a bin of n songs is off
by chance; `by_chance` is the mean ECE if the outcomes were drawn from what was said.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.pairs import missing
from features.params import Evaluation
from serving.ranker import Ranker
from training.metrics import interval
from training.rows import Rows
from training.sessions import OUTCOME_OF, OUTCOMES
from training.tables import markdown_table

BINS: Final = 15
# A mean distance of at most this much passes.
MOST_ERROR: Final = 0.02
FloatArray = NDArray[np.float64]


def equal_mass_bins(said: FloatArray, bins: int = BINS) -> NDArray[np.intp]:
    """Return each prediction's bin, ascending; bins are cut at the quantiles.

    Examples
    --------
    >>> equal_mass_bins(np.array([0.4, 0.1, 0.3, 0.2]), 2)
    array([1, 0, 1, 0])
    """
    cuts = np.quantile(said, np.arange(1, bins) / bins, method="higher")
    filled = np.searchsorted(np.unique(cuts), said, side="right")
    # A cut at the smallest prediction leaves the bin below it empty.
    return np.unique(filled, return_inverse=True)[1]


def calibration_error(said: FloatArray, happened: FloatArray, bins: int = BINS) -> float:
    """Return the expected calibration error.

    Examples
    --------
    >>> calibration_error(np.array([0.1, 0.1, 0.8, 0.8]), np.array([0.0, 0.0, 1.0, 0.0]), 2)
    0.2
    """
    place = equal_mass_bins(said, bins)
    gap = np.abs(np.bincount(place, said) - np.bincount(place, happened))
    return round(float(gap.sum() / len(said)), 12)


def bootstrap_errors(
    said: FloatArray, happened: FloatArray, listeners: NDArray[np.integer], how: Evaluation
) -> FloatArray:
    """Return the ECE of `how.bootstrap` resamples of whole listeners, in the bins of all songs.

    NaN for a single listener, as in `cluster_bootstrap`.
    """
    place = equal_mass_bins(said)
    codes = pd.factorize(listeners)[0]
    if codes.max() < 1:
        return np.full(how.bootstrap, np.nan)
    shape = (int(codes.max()) + 1, int(place.max()) + 1)
    cell = codes * shape[1] + place
    gaps = np.bincount(cell, said - happened, shape[0] * shape[1]).reshape(shape)
    sizes = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape)
    random = np.random.default_rng(how.seed)
    errors = np.empty(how.bootstrap)
    for draw in range(how.bootstrap):
        times = np.bincount(random.integers(0, shape[0], shape[0]), minlength=shape[0])
        errors[draw] = np.abs(times @ gaps).sum() / (times @ sizes).sum()
    return errors


def error_by_chance(said: FloatArray, draws: int, seed: int) -> float:
    """Return the mean ECE of outcomes that are drawn from the predictions themselves."""
    random = np.random.default_rng(seed)
    errors = [
        calibration_error(said, (random.random(len(said)) < said).astype(np.float64))
        for _ in range(draws)
    ]
    return float(np.mean(errors))


def reliability(said: FloatArray, happened: FloatArray) -> pd.DataFrame:
    """Return one row a bin: songs, what was said, what happened, and its 95 % Wilson interval."""
    place = equal_mass_bins(said)
    songs = np.bincount(place)
    share = np.bincount(place, happened) / songs
    z = 1.959964
    centre = (share + z**2 / (2 * songs)) / (1 + z**2 / songs)
    half = z / (1 + z**2 / songs) * np.sqrt(share * (1 - share) / songs + (z / (2 * songs)) ** 2)
    return pd.DataFrame(
        {
            "bin": np.arange(1, len(songs) + 1),
            "songs": songs,
            "said": np.bincount(place, said) / songs,
            "happened": share,
            "low": centre - half,
            "high": centre + half,
        }
    )


def calibration(
    ranker: Ranker, rows: Rows, how: Evaluation
) -> tuple[pd.DataFrame, dict[str, dict[str, float]]]:
    """Return reliability by probability and bin, and each probability's figures.

    Judged are the songs that were played (the answers' rows), whether proposed or not.
    """
    played = rows.features[rows.answer]
    listeners = rows.listener[rows.answer]
    tables: list[pd.DataFrame] = []
    figures = {}
    for name, outcome in OUTCOME_OF.items():
        said = ranker.probability(name, played) if len(played) else None
        if said is None:
            continue
        happened = (rows.outcome[rows.answer] == OUTCOMES.index(outcome)).astype(np.float64)
        tables.append(reliability(said, happened).assign(probability=name))
        low, high = interval(bootstrap_errors(said, happened, listeners, how))
        figures[name] = {
            "ece": calibration_error(said, happened),
            "low": low,
            "high": high,
            "by_chance": error_by_chance(said, min(how.bootstrap, 200), how.seed),
            "songs": len(said),
            "said": float(said.mean()),
            "happened": float(happened.mean()),
        }
    columns = ["probability", "bin", "songs", "said", "happened", "low", "high"]
    # Without likes and skips there are no rows, but still the columns.
    table = pd.concat(tables)[columns] if tables else pd.DataFrame(columns=columns)
    return table, figures


def markdown(figures: dict[str, dict[str, float]]) -> Sequence[str]:
    """Return the paragraphs of a report: what the figures are, and a table of them."""
    if not figures:
        return ["The source has no likes and no skips, or too few to learn a probability from."]
    head = ["", "songs", "said", "happened", "ECE", "95 % interval", "by chance"]
    rows = []
    for name, row in figures.items():
        between = "" if missing(row.get("low")) else f"{row['low']:.4f} to {row['high']:.4f}"
        numbers = [f"{row['songs']:,}", *(f"{row[key]:.4f}" for key in ("said", "happened", "ece"))]
        passed = "yes" if row["ece"] <= MOST_ERROR else "no"
        rows.append([name, *numbers, between, f"{row['by_chance']:.4f}", passed])
    told = (
        f"Expected calibration error on the test phase's songs that were played (the answers of "
        f"the test rows): {BINS} bins of equal size by prediction, equal predictions together; the "
        "mean over songs of |mean prediction - observed share| of their bin. The interval is by "
        "bootstrap over listeners in fixed bins (which adds noise, so it lies high); `by chance` "
        "is what a perfectly calibrated model of these predictions would show with so many songs."
    )
    return [told, markdown_table([*head, f"at most {MOST_ERROR}"], rows)]
