"""Fit the ranker (LightGBM lambdarank), what is added at starts, calibrated p(like) and p(skip)."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import lightgbm
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from features.catalogue import FloatArray
from features.mistakes import Mistake, run_command
from features.params import Ranker, load_params
from serving.files import CALIBRATION_FILE, trees_file
from training.boosting import query_weights, settings_of, train
from training.files import RANKER_FIT, write_json
from training.rows import Rows, concatenate, read_rows
from training.sessions import OUTCOME_OF, OUTCOMES
from training.starts import fit_starts

MIN_POSITIVES = 50
FOLDS = 3
MOST_TREES = 150
CURVE_EVERY = 20
CURVE_POINTS = 1001


@dataclass(frozen=True)
class Probability:
    """A classifier with the calibration curve from its raw output to observed shares."""

    booster: lightgbm.Booster
    raw: NDArray[np.float64]
    share: NDArray[np.float64]


def grades(rows: Rows) -> NDArray[np.int32]:
    """Return 2 for the next song, 1 for songs heard later in the session, 0 for the others."""
    return np.where(rows.answer, 2, rows.later).astype(np.int32)


def usable(rows: Rows) -> NDArray[np.bool_]:
    """Mark rows of queries of which some song heard was proposed; the rest teach no order."""
    found = np.bincount(rows.query, weights=(rows.answer | rows.later) & rows.in_pool) > 0
    return found[rows.query]


def fit_ranker(rows: Rows, names: tuple[str, ...], params: Ranker) -> lightgbm.Booster:
    """Fit lambdarank on the pools of queries of which some song heard was proposed.

    An answer that nobody proposed is left out: no other row lacks all ranks, so the ranker would
    learn that such a song is always the answer, and prefer those added for a named context.
    """
    keep = usable(rows) & rows.in_pool
    if not keep.any():
        raise Mistake(
            "No label query has a song that was heard in its pool; give the generators more."
        )
    sizes = np.unique(rows.query[keep], return_counts=True)[1]
    data = lightgbm.Dataset(
        rows.features[keep],
        label=grades(rows)[keep],
        weight=query_weights(rows, params.weights, params.slate_value)[keep],
        group=sizes,
        feature_name=list(names),
    )
    settings = settings_of(params) | {
        "objective": "lambdarank",
        "lambdarank_truncation_level": 20,
        "label_gain": [0, params.later_gain, 1],
    }
    return train(settings, data, params.rounds, "ranker")


def fit_probability(
    features: FloatArray,
    happened: NDArray[np.bool_],
    listeners: NDArray[np.uint32],
    names: tuple[str, ...],
    params: Ranker,
) -> Probability | None:
    """Fit a calibrated classifier on songs that were played.

    None where it (or its opposite) hardly happened, or all songs are one listener's.

    Listeners are held out in turn. What is said of their songs chooses the number of trees (by log
    loss) and fits the calibration curve, so that it corrects what the booster says of songs and
    listeners that it has not seen.
    """
    if happened.sum() < MIN_POSITIVES or (~happened).sum() < MIN_POSITIVES:
        return None
    fold = folds(listeners)
    if not fold.any():
        return None
    settings = settings_of(params) | {"objective": "binary"}
    grid = tree_counts(min(params.rounds, MOST_TREES))
    said = np.empty((len(grid), len(happened)))
    for held_out in np.unique(fold):
        inside = fold != held_out
        data = lightgbm.Dataset(features[inside], happened[inside], feature_name=list(names))
        booster = lightgbm.train(settings, data, grid[-1])
        for place, trees in enumerate(grid):
            said[place, ~inside] = booster.predict(features[~inside], num_iteration=trees)
    best = int(np.argmin([log_loss(happened, row) for row in said]))
    raw, share = sigmoid_curve(said[best], happened)
    data = lightgbm.Dataset(features, happened, feature_name=list(names))
    return Probability(train(settings, data, grid[best], "probability"), raw, share)


def folds(listeners: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Return the fold of each row, by listener; all the same only where there is one listener.

    Examples
    --------
    >>> folds(np.array([3, 9, 3, 6, 12], dtype=np.uint32)).tolist()
    [0, 2, 0, 1, 0]
    """
    fold = (listeners % FOLDS).astype(np.int64)
    if len(np.unique(fold)) == FOLDS:
        return fold
    # Few listeners may share a remainder; their ranks do not.
    return np.unique(listeners, return_inverse=True)[1] % FOLDS


def tree_counts(most: int) -> list[int]:
    """Return the numbers of trees to choose from, ascending.

    Examples
    --------
    >>> tree_counts(45)
    [20, 40, 45]
    """
    return sorted({*range(CURVE_EVERY, most, CURVE_EVERY), most})


def sigmoid_curve(
    said: NDArray[np.float64], happened: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return points of a logistic curve over the log odds of what was said (Platt, 1999).

    Two parameters don't overfit as an isotonic curve does on a few thousand songs, and it never
    says 0 or 1.
    """
    fitted = LogisticRegression(C=np.inf).fit(log_odds(said)[:, None], happened)
    # Even in log odds: rare likes are said with chances of some thousandths, where even steps of
    # the chance itself would leave the curve to one straight line.
    least, most = log_odds(np.array([0.0, 1.0])).tolist()
    raw = expit(np.linspace(least, most, CURVE_POINTS))
    # A classifier that knows nothing may come out upside down; it then says the mean.
    if fitted.coef_[0, 0] <= 0:
        return raw, np.full(CURVE_POINTS, happened.mean())
    return raw, fitted.predict_proba(log_odds(raw)[:, None])[:, 1]


def log_odds(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log(p / (1 - p)), bounded."""
    inside = np.clip(share, 1e-6, 1 - 1e-6)
    return np.log(inside / (1 - inside))


def save(booster: lightgbm.Booster | None, path: Path) -> None:
    """Write a booster; where there is none, what an earlier run left there is no part of this."""
    if booster:
        # LightGBM's own writing tells of a full disk in an error of its own.
        path.write_text(booster.model_to_string(), encoding="utf-8")
    else:
        path.unlink(missing_ok=True)


def main() -> None:
    """Fit everything that orders and judges a pool, on one or more sets of rows."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rows", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    params = load_params().ranker
    rows, names = concatenate([read_rows(path) for path in arguments.rows])
    arguments.out.mkdir(parents=True, exist_ok=True)
    save(fit_ranker(rows, names, params), arguments.out / trees_file("ranker"))
    save(fit_starts(rows, names, params), arguments.out / trees_file("starts"))
    curves = {}
    played = rows.features[rows.answer]
    listeners = rows.listener[rows.answer]
    outcome = rows.outcome[rows.answer]
    for name, label in OUTCOME_OF.items():
        fitted = fit_probability(played, outcome == OUTCOMES.index(label), listeners, names, params)
        save(fitted.booster if fitted else None, arguments.out / trees_file(name))
        if fitted:
            curves[name] = {"raw": fitted.raw.tolist(), "share": fitted.share.tolist()}
    write_json(arguments.out / CALIBRATION_FILE, curves)
    last = pd.Timestamp(rows.ts.max(), tz="UTC") + pd.Timedelta(1, "us")
    write_json(arguments.out / RANKER_FIT, {"seen_until": last.isoformat()})


if __name__ == "__main__":
    run_command(main)
