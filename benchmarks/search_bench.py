"""A setting of the ranker, and what it is worth: fitted on label rows, asked for next songs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import lightgbm
import numpy as np
from numpy.typing import NDArray

from benchmarks.ablation_rows import ranks_in_pools
from features.mistakes import Mistake
from features.params import Params, Ranker, load_params
from serving.forest import forest
from training.boosting import query_weights, settings_of, train
from training.dataset import utc
from training.metrics import METRICS, cluster_bootstrap, interval
from training.ranker import grades, usable
from training.rows import Rows, concatenate, read_rows, select
from training.starts import at_start

SHOWN: Final = ("ndcg_10", "mrr_20", "hr_20")


@dataclass(frozen=True)
class Setting:
    """What a search chooses; the defaults are what `params.yaml` and `fit_ranker` do today.

    `trees` is the whole forest's, over `members`, whose scores add up: what a request pays for.
    So many `queries` are drawn from each of the last `windows` of labels.
    """

    share: float = 0.1
    windows: int = 2
    queries: int = 16_000
    negatives: int = 60
    later_gain: float = 0.33
    objective: str = "lambdarank"
    truncation: int = 20
    trees: int = 200
    members: int = 1
    learning_rate: float = 0.05
    num_leaves: int = 31
    min_data_in_leaf: int = 100
    feature_fraction: float = 0.4
    bagging_fraction: float = 0.8
    lambda_l2: float = 0.0

    @classmethod
    def of(cls, params: Params) -> "Setting":
        """Return the setting of `params.yaml`."""
        ranker = params.ranker
        same = ranker.model_dump(include=set(cls.__dataclass_fields__))
        share, queries = params.phases.labels_share, ranker.max_queries
        return cls(share=share, queries=queries, trees=ranker.rounds, **same)


def drawn(rows: Rows, queries: int, negatives: int, seed: int) -> Rows:
    """Return at most so many queries, and so many negatives of each, drawn by the seed."""
    random = np.random.default_rng(seed)
    chosen = np.zeros(int(rows.query.max()) + 1, dtype=np.bool_)
    chosen[random.permutation(len(chosen))[:queries]] = True
    here = np.flatnonzero(chosen[rows.query])
    query, heard = rows.query[here], (rows.answer | rows.later)[here]
    order = np.lexsort((random.random(len(here)), heard, query))
    place = np.empty(len(here), dtype=np.int64)
    place[order] = np.arange(len(here)) - np.searchsorted(query, query[order])
    kept = here[heard | (place < negatives)]
    return select(rows, kept)


def fit(
    rows: Rows,
    names: tuple[str, ...],
    setting: Setting,
    params: Ranker,
    seed: int,
    part: float = 1.0,
) -> lightgbm.Booster:
    """Fit one member as `training.ranker.fit_ranker` would, had it these settings.

    What bounds the leaves shrinks with the part of the setting's queries that the rows are.
    """
    keep = usable(rows) & rows.in_pool
    data = lightgbm.Dataset(
        rows.features[keep],
        label=grades(rows)[keep],
        weight=query_weights(rows, params.weights, params.slate_value)[keep],
        group=np.unique(rows.query[keep], return_counts=True)[1],
        feature_name=list(names),
    )
    settings = settings_of(params.model_copy(update={"seed": seed})) | {
        "objective": setting.objective,
        "lambdarank_truncation_level": setting.truncation,
        "label_gain": [0, setting.later_gain, 1],
        "learning_rate": setting.learning_rate,
        "num_leaves": setting.num_leaves,
        "min_data_in_leaf": round(setting.min_data_in_leaf * part),
        "feature_fraction": setting.feature_fraction,
        "bagging_fraction": setting.bagging_fraction,
        "lambda_l2": setting.lambda_l2 * part,
        "num_threads": 1,
    }
    return train(settings, data, setting.trees // setting.members, f"seed {seed}")


@dataclass(frozen=True)
class Bench:
    """Rows of a share's label windows, the latest first; the test cut's whole pools; parameters."""

    labels: Mapping[float, Sequence[Rows]]
    pools: Rows
    names: tuple[str, ...]
    params: Params

    @cached_property
    def asked(self) -> NDArray[np.int64]:
        """The queries that ask for a next song."""
        return np.unique(self.pools.query[~at_start(self.pools, self.names)]).astype(np.int64)

    @cached_property
    def listeners(self) -> NDArray[np.int64]:
        """Who asks them, as numbers from 0."""
        first = np.searchsorted(self.pools.query, self.asked)
        return np.unique(self.pools.listener[first], return_inverse=True)[1].astype(np.int64)

    def scores(self, setting: Setting, seed: int, part: float = 1.0) -> NDArray[np.float64]:
        """Return the scores that a member, fitted on a part of its queries, gives the pools."""
        chosen = []
        for window in self.labels[setting.share][: setting.windows]:
            queries = min(setting.queries, len(np.unique(window.query)))
            found = drawn(window, round(queries * part), setting.negatives, seed)
            chosen.append((found, self.names))
        rows, _ = concatenate(chosen)
        booster = fit(rows, self.names, setting, self.params.ranker, seed, part)
        packed = forest(booster)
        features = self.pools.features
        return packed.predict(features) if packed else booster.predict(features, num_threads=1)

    def values(
        self, setting: Setting, seeds: Sequence[int], part: float = 1.0
    ) -> NDArray[np.float64]:
        """Return each next song's metrics, shape (metrics, queries), the mean over `seeds`."""
        size = int(self.pools.query.max()) + 1
        found = []
        for seed in seeds:
            members = [self.scores(setting, 10 * seed + m, part) for m in range(setting.members)]
            ranks = ranks_in_pools(self.pools, np.sum(members, axis=0), size)[self.asked]
            found.append([METRICS[metric](ranks) for metric in SHOWN])
        return np.mean(found, axis=0)


def relative(values: NDArray[np.float64], base: NDArray[np.float64]) -> float:
    """Return the mean over metrics of the ratio to the base's.

    Examples
    --------
    >>> relative(np.array([[0.2], [0.3]]), np.array([[0.1], [0.3]]))
    1.5
    """
    return float((values.mean(axis=1) / base.mean(axis=1)).mean())


def judged(
    bench: Bench, tried: Mapping[str, Setting], seeds: Sequence[int]
) -> dict[str, dict[str, Any]]:
    """Return each setting's metrics, and what it brings to the first, with paired intervals."""
    each = {name: bench.values(setting, seeds) for name, setting in tried.items()}
    base = next(iter(each.values()))
    how = bench.params.evaluation
    found: dict[str, dict[str, Any]] = {}
    for name, values in each.items():
        gain = values - base
        draws = cluster_bootstrap(gain.T, bench.listeners, how.bootstrap, how.seed)
        found[name] = {"relative": relative(values, base)}
        for place, metric in enumerate(SHOWN):
            low, high = interval(draws[:, place])
            brings = {"brings": float(gain[place].mean()), "low": low, "high": high}
            found[name][metric] = {"value": float(values[place].mean()), **brings}
    return found


def read_bench(folder: Path, until: datetime) -> Bench:
    """Read what `benchmarks.search_rows` wrote.

    Raises
    ------
    Mistake
        If a query of the test cut was asked at or after `until`, or the rows' features differ.
    """
    labels: dict[float, list[Rows]] = {}
    tests = sorted(folder.glob("share-*/test.parquet"))
    if not tests:
        raise Mistake(f"{folder} holds no rows; `python -m benchmarks.search_rows` makes them.")
    pools, names = read_rows(tests[0])
    last = pools.ts.max()
    if last >= utc(until):
        raise Mistake(
            f"{folder} asks until {last}, not before --until {until}: settings may not be chosen "
            "on the main test phase. Build rows with an earlier --as-of."
        )
    # A share whose snapshots were killed has no rows yet.
    for latest in sorted(folder.glob("share-*/labels.parquet")):
        windows = labels.setdefault(float(latest.parent.name.removeprefix("share-")), [])
        for path in (latest, latest.with_name("earlier.parquet")):
            rows, other = read_rows(path)
            if other != names:
                raise Mistake(f"{path} has other features than the pools; build all rows again.")
            windows.append(rows)
    return Bench(labels, select(pools, pools.in_pool), names, load_params())
