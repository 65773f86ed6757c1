"""The recommender: a plain object that answers queries from a bundle.

`prepare` and `answer` are the one path of evaluation, batch and service; `recommend` and
`recommend_many` put them together for one query and for many.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.params import Exploration, Feedback, Modes, Steering
from features.query import Query
from serving.bundle import load_ranker, load_retrieval, load_sections
from serving.candidates import Candidates, Prepared
from serving.compiled import proposals
from serving.exploration import Explore
from serving.manifest import history_songs, read_manifest
from serving.notes import too_short, unknown
from serving.ranker import Ranker
from serving.reasons import Reason, proposed, reasons
from serving.retrieval import Retrieval
from serving.skips import skip_cost
from serving.spacing import Spacing
from serving.stages import current, stage
from serving.steering import Steerer

PREDICT_ROWS: Final = 20_000
# Nothing is drawn: the best songs in order.
BEST: Final = Explore(temperature=0.0, seed=0)


class RankedSong(NamedTuple):
    """One song of an answer: its id, and its `place` in the catalogue.

    `sources` are the generators that proposed it, best rank first; `reasons` say why, the
    weightiest first.
    """

    song_id: str
    place: int
    score: float
    p_like: float | None
    sources: tuple[str, ...]
    reasons: tuple[Reason, ...]
    propensity: float = 1.0


@dataclass(frozen=True)
class Slate:
    """An answer, best song first, and the session's song ids that the catalogue lacks.

    `relaxed` names the soft rules that gave way; `notes` say what could not be done as wished.
    Where it is to be logged (`explore` was given), `scores` are those of all candidates as they
    were ordered and `places` the answer's songs among them.
    """

    songs: tuple[RankedSong, ...]
    unknown_songs: tuple[str, ...]
    relaxed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    scores: NDArray[np.float64] = field(default_factory=lambda: np.empty(0), compare=False)
    places: NDArray[np.intp] = field(
        default_factory=lambda: np.empty(0, dtype=np.intp), compare=False
    )


@dataclass(frozen=True)
class Recommender:
    """Retrieval and ranker of one bundle."""

    retrieval: Retrieval
    ranker: Ranker
    manifest: dict[str, Any]
    exploration: Exploration = Exploration()
    feedback: Feedback = Feedback()
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
        return cls(retrieval, ranker, manifest, **load_sections(folder, manifest))

    @cached_property
    def candidates(self) -> Candidates:
        """What finds the songs that the ranker orders."""
        return Candidates.of(self.retrieval, self.steering)

    @cached_property
    def steerer(self) -> Steerer:
        """What bends the answers to the listeners' wishes."""
        return Steerer(self.retrieval, self.modes, self.steering)

    @cached_property
    def spacing(self) -> Spacing:
        """What orders the answers."""
        return Spacing(self.retrieval.songs, self.steering)

    @property
    def version(self) -> str:
        """The bundle's version."""
        return str(self.manifest["version"])

    @property
    def history_songs(self) -> int:
        """How many songs the histories held that the ranker learnt from."""
        return history_songs(self.manifest)

    def recommend(self, query: Query, k: int, explain: bool = False) -> Slate:
        """Answer one query with at most `k` songs."""
        return self.answer(self.prepare(query, k), k, explain)

    def answer(
        self, prepared: Prepared, k: int, explain: bool = False, explore: Explore | None = None
    ) -> Slate:
        """Order a prepared query's pool and return its first `k` songs, or draw as many."""
        with stage("rank"):
            scores = self.ranker.scores(prepared.features)
        with stage("write"):
            return self._slate(prepared, scores, k, explain, explore)

    def recommend_many(self, queries: Sequence[Query], k: int) -> list[Slate]:
        """Answer many queries; the ranker sees them in large blocks, the answers are the same."""
        slates: list[Slate] = []
        waiting: list[Prepared] = []
        rows = 0
        for query in queries:
            waiting.append(self.prepare(query, k))
            rows += len(waiting[-1].features)
            if rows >= PREDICT_ROWS:
                slates += self._answer(waiting, k)
                waiting, rows = [], 0
        return slates + self._answer(waiting, k)

    def prepare(self, query: Query, k: int = 0) -> Prepared:
        """Do everything up to the ranker's input; the pool should hold `k` songs if it can."""
        return self.candidates.prepare(query, k)

    def _answer(self, waiting: list[Prepared], k: int) -> list[Slate]:
        if not waiting:
            return []
        scores = self.ranker.scores(np.concatenate([w.features for w in waiting]))
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
        state, pool = prepared.state, prepared.pool
        scores = scores - skip_cost(state, self.retrieval.songs, pool.songs, scores, self.feedback)
        raised = self.steerer.raised(state, scores)
        scores = self.steerer.moved(state, pool.songs, scores)
        answer = self.spacing.chosen(state, pool.songs, scores, k, explore or BEST)
        chosen, chance = answer.places, answer.propensities
        notes = (*unknown(self.retrieval.songs, state.query), *too_short(len(chosen), k))
        self._note(prepared, chosen)
        found, rows = pool.songs[chosen], prepared.features[chosen]
        p_like = self.ranker.probability("p_like", rows) if explain else None
        told = reasons(self.retrieval, self.ranker, state, found, rows, raised) if explain else None
        ids = self.retrieval.songs.ids.chosen(found)
        sources = [self._sources(prepared, row) if explain else () for row in chosen.tolist()]
        songs = tuple(
            RankedSong(
                song_id=song_id,
                place=place,
                score=float(scores[row]),
                p_like=None if p_like is None else float(p_like[i]),
                sources=sources[i],
                reasons=(told[i] or proposed(self.retrieval, place, sources[i])) if told else (),
                propensity=float(chance[i]),
            )
            for i, (row, song_id, place) in enumerate(
                zip(chosen.tolist(), ids, found.tolist(), strict=True)
            )
        )
        relaxed = (*prepared.relaxed, *answer.relaxed)
        slate = Slate(songs, state.unknown_songs, relaxed, notes)
        return slate if explore is None else replace(slate, scores=scores, places=chosen)

    def _note(self, prepared: Prepared, chosen: NDArray[np.intp]) -> None:
        """Leave with the request how many songs each generator proposed and ranked best."""
        stages = current()
        if stages is None:
            return
        pool, names = prepared.pool, self.retrieval.names
        counts, best_by = proposals(pool.ranks, chosen)
        # A song that nobody ranked counts for what added it.
        first = [
            names[generator] if generator >= 0 else self._sources(prepared, row)[0]
            for generator, row in zip(best_by.tolist(), chosen.tolist(), strict=True)
        ]
        stages.facts |= {
            "version": self.version,
            "pool": len(pool.songs),
            "proposed": dict(zip(names, counts.tolist(), strict=True)),
            "sources": Counter(first),
        }

    def _sources(self, prepared: Prepared, row: int) -> tuple[str, ...]:
        ranks, song = prepared.pool.ranks[row], prepared.pool.songs[row]
        order = np.argsort(ranks, kind="stable")
        ranked = [self.retrieval.names[i] for i in order if np.isfinite(ranks[i])]
        return (*ranked, *(why for why, songs in prepared.added.items() if song in songs))
