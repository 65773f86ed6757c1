"""Fit the ranker (LightGBM lambdarank) and the calibrated p(like) and p(skip)."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import lightgbm
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from tqdm import tqdm

from features.catalogue import FloatArray
from features.params import OutcomeWeights, Ranker, load_params
from training.files import write_json
from training.rows import Rows, read_rows
from training.sessions import OUTCOMES

MIN_POSITIVES = 50
FOLDS = 3
CURVE_EVERY = 20


@dataclass(frozen=True)
class Probability:
    """A classifier with the calibration curve from its raw output to observed shares."""

    booster: lightgbm.Booster
    raw: NDArray[np.float64]
    share: NDArray[np.float64]


def query_weights(rows: Rows, weights: OutcomeWeights, value: float) -> NDArray[np.float32]:
    """Return each row's weight: that of what became of its query's answer, to the power `value`.

    Lambdarank divides by the query's ideal DCG, so that a grade of the next song would cancel out.
    What an outcome is worth therefore weighs the whole query.
    """
    by_outcome = np.array([getattr(weights, outcome) for outcome in OUTCOMES], dtype=np.float32)
    return (by_outcome**value)[rows.outcome]


def grades(rows: Rows) -> NDArray[np.int32]:
    """Return 2 for the next song, 1 for songs heard later in the session, 0 for the others."""
    return np.where(rows.answer, 2, rows.later).astype(np.int32)


def usable(rows: Rows) -> NDArray[np.bool_]:
    """Mark rows of queries of which some song heard was proposed; the rest teach no order."""
    found = np.bincount(rows.query, weights=(rows.answer | rows.later) & rows.in_pool) > 0
    return found[rows.query]


def fit_ranker(rows: Rows, names: tuple[str, ...], params: Ranker) -> lightgbm.Booster:
    """Fit lambdarank on the rows of queries whose answer is in the pool."""
    keep = usable(rows)
    if not keep.any():
        raise ValueError(
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


def settings_of(params: Ranker) -> dict[str, object]:
    """Return LightGBM's settings that ranker and probabilities share."""
    return {
        "learning_rate": params.learning_rate,
        "num_leaves": params.num_leaves,
        "min_data_in_leaf": params.min_data_in_leaf,
        "feature_fraction": params.feature_fraction,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "seed": params.seed,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }


def train(
    settings: dict[str, object], data: lightgbm.Dataset, rounds: int, what: str
) -> lightgbm.Booster:
    """Train with a progress bar."""
    with tqdm(total=rounds, desc=what, unit="tree", mininterval=1) as bar:
        return lightgbm.train(
            settings, data, num_boost_round=rounds, callbacks=[lambda _: bar.update() and None]
        )


def fit_probability(
    features: FloatArray, happened: NDArray[np.bool_], names: tuple[str, ...], params: Ranker
) -> Probability | None:
    """Fit a calibrated classifier on songs that were played; None where it never happened.

    The calibration curve is fitted on out-of-fold predictions, so that it corrects what the
    booster says of songs it has not seen (Niculescu-Mizil and Caruana, ICML 2005).
    """
    if happened.sum() < MIN_POSITIVES or (~happened).sum() < MIN_POSITIVES:
        return None
    settings = settings_of(params) | {"objective": "binary"}
    rounds = min(params.rounds, 150)
    fold = np.arange(len(happened)) * FOLDS // len(happened)
    raw = np.empty(len(happened))
    for held_out in range(FOLDS):
        inside = fold != held_out
        data = lightgbm.Dataset(features[inside], happened[inside], feature_name=list(names))
        raw[~inside] = lightgbm.train(settings, data, rounds).predict(features[~inside])
    curve = IsotonicRegression(out_of_bounds="clip").fit(raw, happened)
    data = lightgbm.Dataset(features, happened, feature_name=list(names))
    booster = train(settings, data, rounds, "probability")
    return Probability(booster, curve.X_thresholds_, curve.y_thresholds_)


def main() -> None:
    """Fit everything that orders and judges a pool, on one or more sets of rows."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rows", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    params = load_params().ranker
    rows, names = concatenate([read_rows(path) for path in arguments.rows])
    arguments.out.mkdir(parents=True, exist_ok=True)
    fit_ranker(rows, names, params).save_model(arguments.out / "ranker.txt")
    curves = {}
    played = rows.features[rows.answer]
    outcome = rows.outcome[rows.answer]
    for name, label in (("p_like", "liked"), ("p_skip", "skip")):
        fitted = fit_probability(played, outcome == OUTCOMES.index(label), names, params)
        if fitted:
            fitted.booster.save_model(arguments.out / f"{name}.txt")
            curves[name] = {"raw": fitted.raw.tolist(), "share": fitted.share.tolist()}
    write_json(arguments.out / "calibration.json", curves)
    last = pd.Timestamp(rows.ts.max(), tz="UTC") + pd.Timedelta(1, "us")
    write_json(arguments.out / "ranker_fit.json", {"seen_until": last.isoformat()})


def concatenate(parts: list[tuple[Rows, tuple[str, ...]]]) -> tuple[Rows, tuple[str, ...]]:
    """Join sets of rows, numbering their queries on.

    Raises
    ------
    ValueError
        If their features differ.
    """
    names = parts[0][1]
    if any(other != names for _, other in parts):
        raise ValueError("The sets of rows have different features; rebuild them all.")
    offsets = np.cumsum([0, *(int(rows.query.max()) + 1 for rows, _ in parts[:-1])])
    return Rows(
        features=np.concatenate([rows.features for rows, _ in parts]),
        query=np.concatenate([rows.query + o for (rows, _), o in zip(parts, offsets, strict=True)]),
        answer=np.concatenate([rows.answer for rows, _ in parts]),
        later=np.concatenate([rows.later for rows, _ in parts]),
        in_pool=np.concatenate([rows.in_pool for rows, _ in parts]),
        outcome=np.concatenate([rows.outcome for rows, _ in parts]),
        ts=np.concatenate([rows.ts for rows, _ in parts]),
    ), names


if __name__ == "__main__":
    main()
