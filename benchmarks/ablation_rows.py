"""Rows of every generator, feature and variant at once, and views without some of them.

A view is what the rows would have been: other generators' columns are gone, and so are the songs
that only they proposed.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from features.catalogue import IntArray
from features.columns import Song
from features.pair_groups import GROUPS
from features.pairs import Group, Pairs
from features.params import Params, SignalName
from features.state import State, nobody
from serving.bundle import blend, load_factors, load_retrieval
from serving.generators import Blend, SignalFactors
from serving.retrieval import BLEND, Retrieval
from serving.scores import Scores
from training.dataset import heard_later, query_rows
from training.factors import fit_factors, read_matrix, save_fit
from training.generators import song_rows, write_factors, write_retrieval
from training.metrics import TOP
from training.phases import Cut, Phases
from training.queries import Labelled
from training.rows import MARKS, Part, Rows, join, places

SIGNAL: Final[SignalName] = "listen"
# As many negatives as no pool has songs.
WHOLE_POOL: Final = 1_000_000
# How the listen signal could be factorised instead; the skip matrix leaves the blend for `zero`.
VARIANTS: Final[Mapping[str, dict[str, object]]] = {
    "frequency_0.5": {"frequency_exponent": 0.5},
    "frequency_1": {"frequency_exponent": 1.0},
    "skip_zero": {"skip_as": "zero"},
    "no_recency": {"half_life_days": 36_500.0},
}


@dataclass(frozen=True)
class VariantBlend:
    """The blend of other factors, as a generator."""

    blend: Blend
    parts: Mapping[SignalName, SignalFactors]

    def scores(self, state: State) -> Scores:
        """Return the blended score."""
        return self.blend.combine({name: part.scores(state) for name, part in self.parts.items()})


def wide(params: Params) -> Params:
    """Switch on every generator that has a switch."""
    sections = params.generators
    on = {
        name: getattr(sections, name).model_copy(update={"enabled": True})
        for name in type(sections).model_fields
        if hasattr(getattr(sections, name), "enabled")
    }
    return params.model_copy(update={"generators": sections.model_copy(update=on)})


def fit_wide(params: Params, phases: Phases, cut: Cut, data: Path, out: Path) -> None:
    """Fit all generators and the variants of the listen signal as of a cut."""
    lake = data / "lake"
    write_retrieval(wide(params), phases, cut, lake, data / "factors" / cut, out)
    until = phases.fit_until(cut)
    song_ids = song_rows(lake, phases.features_at(cut))[Song.ID].to_numpy(dtype=np.str_)
    for name, update in VARIANTS.items():
        changed = params.signals[SIGNAL].model_copy(update=update)
        signals = {**params.signals, SIGNAL: changed}
        fitted = fit_factors(read_matrix(lake, SIGNAL, until, signals), changed, threads=1)
        fresh = out / f"{name}.fit.npz"
        save_fit(fresh, fitted, signals, SIGNAL, until)
        write_factors(fresh, out / f"{name}.variant.npz", song_ids, until)


def load_wide(folder: Path, params: Params) -> Retrieval:
    """Return the retrieval with each variant's factors and blend as further generators."""
    plain = load_retrieval(folder)
    generators, quota = dict(plain.generators), dict(plain.quota)
    for name in VARIANTS:
        parts: dict[SignalName, SignalFactors] = {
            signal: part
            for signal, part in ((s, plain.generators.get(s)) for s in params.signals)
            if isinstance(part, SignalFactors)
        }
        parts[SIGNAL] = SignalFactors(SIGNAL, load_factors(folder / f"{name}.variant.npz"))
        weights = {signal: params.signals[signal].weight for signal in parts}
        if parts[SIGNAL].model.skip_weight and "skip" in weights:
            weights["skip"] = 0.0
        generators[f"{name}_{SIGNAL}"] = parts[SIGNAL]
        both = blend(parts, weights, len(plain.songs))
        generators[f"{name}_{BLEND}"] = VariantBlend(both, parts)
        quota |= {f"{name}_{part}": quota[part] for part in (SIGNAL, BLEND)}
    return replace(plain, generators=generators, quota=quota)


def build(
    retrieval: Retrieval, queries: Sequence[Labelled], negatives: int, seed: int, what: str
) -> Rows:
    """Return the rows of the queries of which a song heard was proposed, by their numbers."""
    parts: list[Part] = []
    kept: list[int] = []
    for number, labelled in enumerate(tqdm(queries, desc=what, unit="query", mininterval=5)):
        part = query_rows(retrieval, labelled, negatives, np.random.default_rng([seed, number]))
        if ((part.answer | part.later) & part.in_pool).any():
            parts.append(part)
            kept.append(number)
    return join(parts, kept)


def view(
    rows: Rows, names: Sequence[str], generators: Collection[str], without: Collection[str]
) -> tuple[Rows, tuple[str, ...]]:
    """Return the rows as these generators alone would have made them, without some columns."""
    every = [name.removesuffix("_rank") for name in names if name.endswith("_rank")]
    gone = {
        column for name in every if name not in generators for column in own_columns(name, names)
    }
    ranks = [names.index(f"{name}_rank") for name in every if name in generators]
    proposed = np.isfinite(rows.features[:, ranks]).sum(axis=1)
    keep = (proposed > 0) | rows.answer
    columns = [i for i, name in enumerate(names) if name not in gone and name not in without]
    features = rows.features[np.ix_(keep, columns)]
    kept = tuple(names[i] for i in columns)
    if "proposed_by" in kept:
        features[:, kept.index("proposed_by")] = proposed[keep]
    marks = {name: getattr(rows, name)[keep] for name in MARKS}
    return Rows(features, **marks | {"in_pool": proposed[keep] > 0}), kept


def own_columns(name: str, names: Sequence[str]) -> list[str]:
    """Return the columns that a generator brings: score, rank, and what else is read off it."""
    own = (f"{name}_score", f"{name}_rank")
    further = {
        "transitions": "step_",
        "vectors": "near_",
        "loops": "loop_",
        "continuations": "match_",
    }
    return [c for c in names if c in own or (name in further and c.startswith(further[name]))]


def group_work(
    retrieval: Retrieval, state: State, songs: IntArray
) -> dict[str, Callable[[], Group]]:
    """Return what computes each group of pair, link and daypart features, by name."""
    pairs, links = Pairs(state, retrieval.songs, songs), retrieval.links
    work: dict[str, Callable[[], Group]] = {
        f"pairs: {group.__name__}": partial(group, pairs) for group in GROUPS
    }
    for method in (links.nearness, links.loops, links.own_order):
        work[f"links: {method.__name__}"] = partial(method, state, songs)
    work["links: steps"] = partial(links.steps, state)
    if links.continuations:
        work["links: continuations"] = partial(links.continuations.features, state, songs)
    if retrieval.dayparts:
        work["dayparts"] = partial(retrieval.dayparts.features, state, songs)
    return work


def feature_groups(retrieval: Retrieval) -> dict[str, list[str]]:
    """Return the columns of each group of features."""
    unknown = nobody(retrieval.songs)
    work = group_work(retrieval, unknown, np.empty(0, dtype=np.int32))
    return {name: list(compute()) for name, compute in work.items()} | {
        "agreement": ["proposed_by"]
    }


def ranks_in_pools(rows: Rows, scores: NDArray[np.float64], queries: int) -> NDArray[np.float64]:
    """Return each query's answer's rank from 1, NaN where nobody proposed it; shape (queries,)."""
    use = rows.in_pool
    query, answer = rows.query[use], rows.answer[use]
    ranks = np.full(queries, np.nan)
    ranks[query[answer]] = places(query, scores[use])[answer] + 1
    return ranks


def coming_recall(
    rows: Rows, scores: NDArray[np.float64], queries: Sequence[Labelled]
) -> NDArray[np.float64]:
    """Return the share of each session's songs that a start's first `TOP` hold; shape (queries,).

    Skipped songs count but as the first, as in the ranker's labels.
    """
    use = rows.in_pool
    query, heard = rows.query[use], (rows.answer | rows.later)[use]
    found = heard & (places(query, scores[use]) < TOP)
    coming = [len({labelled.answer, *heard_later(labelled)}) for labelled in queries]
    return np.bincount(query[found], minlength=len(queries)) / np.array(coming)
