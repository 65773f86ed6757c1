"""How far p(like) and p(skip) may be taken at their word, on songs that were played.

Reliability: the songs are put into `BINS` bins of (nearly) equal size by what was said of them;
equal predictions stay together. A bin compares the mean of what was said with the share it
happened to. The expected calibration error (ECE) is the mean distance of the two, weighted by the
bins' songs. Even a perfectly calibrated model has an ECE above zero, since a bin of n songs is off
by chance; `by_chance` is the mean ECE if the outcomes were drawn from what was said, and
`chance_most` what it then stays below in 39 of 40 cases, songs taken as independent: those of one
listener are not quite, so that chance may bring a little more. (An interval by bootstrap is none: a
resample is off by chance twice.)
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.params import Evaluation
from serving.ranker import Ranker
from training.rows import Rows
from training.sessions import OUTCOME_OF, OUTCOMES
from training.tables import markdown_table

BINS: Final = 15
# A mean distance of at most this much passes.
MOST_ERROR: Final = 0.02
Floats = NDArray[np.float64]


def equal_mass_bins(said: Floats, bins: int = BINS) -> NDArray[np.intp]:
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


def calibration_error(said: Floats, happened: Floats, bins: int = BINS) -> float:
    """Return the expected calibration error.

    Examples
    --------
    >>> calibration_error(np.array([0.1, 0.1, 0.8, 0.8]), np.array([0.0, 0.0, 1.0, 0.0]), 2)
    0.2
    """
    place = equal_mass_bins(said, bins)
    gap = np.abs(np.bincount(place, said) - np.bincount(place, happened))
    return round(float(gap.sum() / len(said)), 12)


def error_by_chance(said: Floats, draws: int, seed: int) -> tuple[float, float]:
    """Return the ECE of outcomes drawn from the predictions: its mean, its 97.5 % quantile."""
    random = np.random.default_rng(seed)
    errors = [
        calibration_error(said, (random.random(len(said)) < said).astype(np.float64))
        for _ in range(draws)
    ]
    return float(np.mean(errors)), float(np.quantile(errors, 0.975))


def reliability(said: Floats, happened: Floats) -> pd.DataFrame:
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
    tables: list[pd.DataFrame] = []
    figures = {}
    for name, outcome in OUTCOME_OF.items():
        said = ranker.probability(name, played) if len(played) else None
        if said is None:
            continue
        happened = (rows.outcome[rows.answer] == OUTCOMES.index(outcome)).astype(np.float64)
        tables.append(reliability(said, happened).assign(probability=name))
        chance, most = error_by_chance(said, min(how.bootstrap, 200), how.seed)
        figures[name] = {
            "ece": calibration_error(said, happened),
            "by_chance": chance,
            "chance_most": most,
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
    head = ["", "songs", "said", "happened", "ECE", "by chance", "at most"]
    rows = []
    for name, row in figures.items():
        keys = ("said", "happened", "ece", "by_chance", "chance_most")
        numbers = [f"{row['songs']:,}", *(f"{row[key]:.4f}" for key in keys)]
        rows.append([name, *numbers, verdict(row["ece"], row["chance_most"])])
    told = (
        f"Expected calibration error on the test phase's songs that were played (the answers of "
        f"the test rows): {BINS} bins of equal size by prediction, equal predictions together; the "
        "mean over songs of |mean prediction - observed share| of their bin. `by chance` is what "
        "a perfectly calibrated model of these predictions would show on average with so many "
        "songs, and `at most` what it would stay below in 39 of 40 cases (songs taken as "
        "independent; those of one listener are not quite, so that chance may bring a little "
        f"more): where that is above {MOST_ERROR}, an error between the two may be the model's or "
        "chance's."
    )
    return [told, markdown_table([*head, f"within {MOST_ERROR}"], rows)]


def verdict(error: float, chance_most: float) -> str:
    """Say whether an ECE passes; one that a perfect model may show as well says nothing.

    Examples
    --------
    >>> verdict(0.018, 0.04), verdict(0.03, 0.04), verdict(0.03, 0.01)
    ('yes', 'too few songs to say', 'no')
    """
    if error <= MOST_ERROR:
        return "yes"
    return "no" if error > chance_most else "too few songs to say"
