"""The recommender: a plain object that answers queries from a bundle.

Evaluation, batch and service all call `Recommender.recommend_many` or `recommend`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from features.catalogue import FloatArray
from features.params import Exploration, Feedback
from features.query import Query
from features.state import State, resolve
from serving.bundle import load_ranker, load_retrieval, read_manifest
from serving.exploration import Explore, drawn, propensities
from serving.ranker import Ranker
from serving.reasons import reasons
from serving.retrieval import Pool, Retrieval
from serving.scores import best
from serving.skips import skip_cost
from serving.stages import current, stage

PREDICT_ROWS: Final = 20_000


@dataclass(frozen=True)
class RankedSong:
    """One song of an answer. `sources` are the generators that proposed it, best rank first."""

    song_id: str
    score: float
    p_like: float | None
    sources: tuple[str, ...]
    reasons: tuple[str, ...]
    propensity: float = 1.0


@dataclass(frozen=True)
class Slate:
    """An answer, best song first, and the session's song ids that the catalogue lacks.

    Where it was drawn (`Explore`), `scores` are those of all candidates as they were ordered and
    `places` the answer's songs among them.
    """

    songs: tuple[RankedSong, ...]
    unknown_songs: tuple[str, ...]
    scores: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), compare=False)
    places: NDArray[np.intp] = field(
        default_factory=lambda: np.empty(0, dtype=np.intp), compare=False
    )


@dataclass(frozen=True)
class Prepared:
    """A query on its way: resolved, with its pool and the ranker's input."""

    state: State
    pool: Pool
    features: FloatArray


@dataclass(frozen=True)
class Recommender:
    """Retrieval and ranker of one bundle."""

    retrieval: Retrieval
    ranker: Ranker
    manifest: dict[str, Any]
    exploration: Exploration = Exploration()
    feedback: Feedback = Feedback()

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
        params = manifest.get("params", {})
        return cls(
            retrieval,
            load_ranker(folder, retrieval.feature_names),
            manifest,
            # Bundles from before these sections go by their defaults.
            Exploration.model_validate(params.get("exploration", {})),
            Feedback.model_validate(params.get("feedback", {})),
        )

    @property
    def version(self) -> str:
        """The bundle's version."""
        return str(self.manifest["version"])

    def recommend(self, query: Query, k: int, explain: bool = False) -> Slate:
        """Answer one query with at most `k` songs."""
        return self.answer(self.prepare(query), k, explain)

    def answer(
        self, prepared: Prepared, k: int, explain: bool = False, explore: Explore | None = None
    ) -> Slate:
        """Order a prepared query's pool and return its first `k` songs, or draw as many."""
        with stage("rank"):
            scores = self.ranker.scores(prepared.features)
        with stage("write"):
            return self._slate(prepared, scores, k, explain, explore)

    def recommend_many(self, queries: Sequence[Query], k: int, threads: int = 2) -> list[Slate]:
        """Answer many queries; the ranker sees them in large blocks, the answers are the same."""
        slates: list[Slate] = []
        waiting: list[Prepared] = []
        rows = 0
        for query in queries:
            waiting.append(self.prepare(query))
            rows += len(waiting[-1].features)
            if rows >= PREDICT_ROWS:
                slates += self._answer(waiting, k, threads)
                waiting, rows = [], 0
        return slates + self._answer(waiting, k, threads)

    def prepare(self, query: Query) -> Prepared:
        """Do everything up to the ranker's input."""
        with stage("resolve"):
            state = resolve(query, self.retrieval.songs)
        with stage("retrieve"):
            pool = self.retrieval.pool(state)
        with stage("features"):
            return Prepared(state, pool, self.retrieval.features(state, pool))

    def _answer(self, waiting: list[Prepared], k: int, threads: int) -> list[Slate]:
        if not waiting:
            return []
        scores = self.ranker.scores(np.concatenate([w.features for w in waiting]), threads)
        ends = np.cumsum([len(w.features) for w in waiting])[:-1]
        parts = np.split(scores, ends)
        return [self._slate(w, part, k) for w, part in zip(waiting, parts, strict=True)]

    def _slate(
        self,
        prepared: Prepared,
        scores: np.ndarray,
        k: int,
        explain: bool = False,
        explore: Explore | None = None,
    ) -> Slate:
        songs_of = (prepared.state, self.retrieval.songs, prepared.pool.songs)
        scores = scores - skip_cost(*songs_of, scores, self.feedback)
        chosen = best(scores, k) if explore is None else drawn(scores, k, explore)
        chance = propensities(scores, chosen, explore.temperature if explore else 0.0)
        self._note(prepared.pool, chosen)
        p_like = self.ranker.probability("p_like", prepared.features[chosen]) if explain else None
        ids = self.retrieval.songs.ids[prepared.pool.songs[chosen]]
        songs = tuple(
            RankedSong(
                song_id=str(song_id),
                score=float(scores[row]),
                p_like=None if p_like is None else float(p_like[i]),
                sources=self._sources(prepared.pool, row) if explain else (),
                reasons=reasons(self.retrieval, prepared.state, prepared.pool, row)
                if explain
                else (),
                propensity=float(chance[i]),
            )
            for i, (row, song_id) in enumerate(zip(chosen, ids, strict=True))
        )
        slate = Slate(songs, prepared.state.unknown_songs)
        return slate if explore is None else replace(slate, scores=scores, places=chosen)

    def _note(self, pool: Pool, chosen: NDArray[np.intp]) -> None:
        """Leave with the request how many songs each generator proposed and ranked best."""
        stages = current()
        if stages is None:
            return
        ranks = np.where(np.isnan(pool.ranks[chosen]), np.float32(np.inf), pool.ranks[chosen])
        names = self.retrieval.names
        stages.facts |= {
            "version": self.version,
            "pool": len(pool.songs),
            "proposed": dict(zip(names, np.isfinite(pool.ranks).sum(axis=0).tolist(), strict=True)),
            "sources": Counter(names[i] for i in ranks.argmin(axis=1).tolist()),
        }

    def _sources(self, pool: Pool, row: int) -> tuple[str, ...]:
        ranks = pool.ranks[row]
        order = np.argsort(ranks, kind="stable")
        return tuple(self.retrieval.names[i] for i in order if np.isfinite(ranks[i]))
