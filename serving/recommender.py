"""The recommender: a plain object that answers queries from a bundle.

Evaluation, batch and service all call `Recommender.recommend_many` or `recommend`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from features.catalogue import FloatArray, IntArray
from features.params import Modes, Steering
from features.query import Query
from features.state import State
from serving.bundle import load_ranker, load_retrieval, load_steering, read_manifest
from serving.ranker import Ranker
from serving.reasons import Reason, reasons
from serving.retrieval import Pool, Retrieval
from serving.steering import Steerer

PREDICT_ROWS: Final = 20_000


@dataclass(frozen=True)
class RankedSong:
    """One song of an answer. `sources` are the generators that proposed it, best rank first.

    `reasons` say why, the weightiest first.
    """

    song_id: str
    score: float
    p_like: float | None
    sources: tuple[str, ...]
    reasons: tuple[Reason, ...]


@dataclass(frozen=True)
class Slate:
    """An answer, best song first, and the session's song ids that the catalogue lacks.

    `relaxed` names the soft rules that gave way; `notes` say what could not be done as wished.
    """

    songs: tuple[RankedSong, ...]
    unknown_songs: tuple[str, ...]
    relaxed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """A query on its way: resolved, with its pool and the ranker's input.

    `added` are songs in the pool that no generator proposed, by reason.
    """

    state: State
    pool: Pool
    features: FloatArray
    added: dict[str, IntArray]
    relaxed: tuple[str, ...]


@dataclass(frozen=True)
class Recommender:
    """Retrieval and ranker of one bundle."""

    retrieval: Retrieval
    ranker: Ranker
    manifest: dict[str, Any]
    modes: Modes = Modes()
    steering: Steering = Steering()

    @classmethod
    def load(cls, folder: Path) -> "Recommender":
        """Read and check a bundle.

        Raises
        ------
        BundleError
            If it is missing, damaged or made for other features.
        """
        manifest = read_manifest(folder)
        retrieval = load_retrieval(folder)
        ranker = load_ranker(folder, retrieval.feature_names)
        return cls(retrieval, ranker, manifest, *load_steering(folder))

    @cached_property
    def steerer(self) -> Steerer:
        """What bends the answers to the listeners' wishes."""
        return Steerer.of(self.retrieval, self.modes, self.steering)

    @property
    def version(self) -> str:
        """The bundle's version."""
        return str(self.manifest["version"])

    def recommend(self, query: Query, k: int, explain: bool = False) -> Slate:
        """Answer one query with at most `k` songs."""
        return self.answer(self.prepare(query, k), k, explain)

    def answer(self, prepared: Prepared, k: int, explain: bool = False) -> Slate:
        """Order a prepared query's pool and return its first `k` songs."""
        return self._slate(prepared, self.ranker.scores(prepared.features), k, explain)

    def recommend_many(self, queries: Sequence[Query], k: int, threads: int = 2) -> list[Slate]:
        """Answer many queries; the ranker sees them in large blocks, the answers are the same."""
        slates: list[Slate] = []
        waiting: list[Prepared] = []
        rows = 0
        for query in queries:
            waiting.append(self.prepare(query, k))
            rows += len(waiting[-1].features)
            if rows >= PREDICT_ROWS:
                slates += self._answer(waiting, k, threads)
                waiting, rows = [], 0
        return slates + self._answer(waiting, k, threads)

    def prepare(self, query: Query, k: int = 0) -> Prepared:
        """Do everything up to the ranker's input; the pool should hold `k` songs if it can."""
        state = self.steerer.state(query)
        steered = self.steerer.pool(state, k)
        features = self.retrieval.features(state, steered.pool)
        return Prepared(state, steered.pool, features, steered.added, steered.relaxed)

    def _answer(self, waiting: list[Prepared], k: int, threads: int) -> list[Slate]:
        if not waiting:
            return []
        scores = self.ranker.scores(np.concatenate([w.features for w in waiting]), threads)
        ends = np.cumsum([len(w.features) for w in waiting])[:-1]
        parts = np.split(scores, ends)
        return [self._slate(w, part, k) for w, part in zip(waiting, parts, strict=True)]

    def _slate(
        self, prepared: Prepared, scores: np.ndarray, k: int, explain: bool = False
    ) -> Slate:
        state, pool = prepared.state, prepared.pool
        raised = self.steerer.raised(state, scores)
        scores = self.steerer.moved(state, pool.songs, scores)
        chosen, relaxed = self.steerer.chosen(state, pool.songs, scores, k)
        found, rows = pool.songs[chosen], prepared.features[chosen]
        p_like = self.ranker.probability("p_like", rows) if explain else None
        told = reasons(self.retrieval, self.ranker, state, found, rows, raised) if explain else None
        ids = self.retrieval.songs.ids[found]
        songs = tuple(
            RankedSong(
                song_id=str(song_id),
                score=float(scores[row]),
                p_like=None if p_like is None else float(p_like[i]),
                sources=self._sources(prepared, row) if explain else (),
                reasons=told[i] if told else (),
            )
            for i, (row, song_id) in enumerate(zip(chosen, ids, strict=True))
        )
        notes = self.steerer.notes(state)
        if len(songs) < k:
            notes.append(f"short: only {len(songs)} of {k} songs may be proposed.")
        return Slate(songs, state.unknown_songs, (*prepared.relaxed, *relaxed), tuple(notes))

    def _sources(self, prepared: Prepared, row: int) -> tuple[str, ...]:
        ranks, song = prepared.pool.ranks[row], prepared.pool.songs[row]
        order = np.argsort(ranks, kind="stable")
        proposed = [self.retrieval.names[i] for i in order if np.isfinite(ranks[i])]
        return (*proposed, *(why for why, songs in prepared.added.items() if song in songs))
