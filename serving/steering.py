"""Steering: what listeners wish moves the ranker's scores; without a wish they stay as they are.

By mode, context, radio and "less like this". Weights are in standard deviations of the pool's
scores, so that they mean the same for every ranker and listener.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from features.catalogue import FloatArray, IntArray
from features.columns import Song, SongRow
from features.compiled import standard_deviation
from features.params import Modes, ModeWeights, Steering
from features.query import Wishes
from features.state import State
from serving.context_songs import context_match, named
from serving.generators import SignalFactors
from serving.nearness import nearness
from serving.retrieval import Retrieval

NEUTRAL: Final = Wishes()
ANCHORS: Final = 20
BEST_FIFTH: Final = 0.8


@dataclass(frozen=True)
class Steerer:
    """Moves the scores of one bundle's ranker."""

    retrieval: Retrieval
    modes: Modes
    params: Steering

    def moved(self, state: State, songs: IntArray, scores: NDArray[Any]) -> NDArray[Any]:
        """Return the ranker's scores as the wishes move them; untouched where there are none."""
        wishes = state.query.wishes
        if wishes == NEUTRAL or len(songs) == 0:
            return scores
        steps = np.zeros(len(songs))
        if wishes.mode != "balanced":
            steps += self._mode(getattr(self.modes, wishes.mode), state, songs, scores)
        if wishes.heed_context:
            match = context_match(self.retrieval.songs, state.query.context, songs)
            steps += self.params.context_weight * match
        if state.radio:
            steps += self._towards_seeds(state, songs, scores)
        if wishes.less_like:
            # The last one is the latest.
            unwanted = self.retrieval.songs.indices(wishes.less_like)[::-1]
            steps -= self.params.less_like_weight * self._near(songs, unwanted[unwanted >= 0])
        return scores + steps * unit(scores)

    def raised(self, state: State, scores: NDArray[Any]) -> float:
        """Return by how much a match with one part of the named context raises a score."""
        parts = len(named(state.query.context)) if state.query.wishes.heed_context else 0
        return self.params.context_weight * unit(scores) / parts if parts else 0.0

    def _mode(
        self, weights: ModeWeights, state: State, songs: IntArray, scores: NDArray[Any]
    ) -> FloatArray:
        catalogue = self.retrieval.songs
        heard = np.concatenate([state.history, state.played])
        known = np.isin(songs, heard)
        artists = catalogue.codes[Song.ARTISTS].codes
        theirs = np.isin(artists[songs], artists[heard]) & (artists[songs] >= 0) & ~known
        # Among the candidates: of the catalogue, nearly all of them may be of the upper hundredth.
        popularity = rankdata(np.nan_to_num(catalogue.numbers[SongRow.POPULARITY][songs]))
        return (
            (weights.known + _apart(scores, known, weights.known)) * known
            + weights.known_artist * theirs
            + weights.popularity * popularity / len(songs)
        )

    def _towards_seeds(self, state: State, songs: IntArray, scores: NDArray[Any]) -> FloatArray:
        """Return what a radio adds: by nearness, and the best of the nearest fifth lead."""
        near = self._near(songs, state.session[: state.radio])
        nearest = (near > 0) & (near >= np.quantile(near, BEST_FIFTH))
        weight = self.params.radio_weight
        return weight * near + _apart(scores, nearest, weight, 1.0) * nearest

    def _near(self, songs: IntArray, anchors: IntArray) -> FloatArray:
        listen = self.retrieval.generators.get("listen")
        model = listen.model if isinstance(listen, SignalFactors) else None
        return nearness(self.retrieval.songs, model, songs, anchors[:ANCHORS])


def _apart(
    scores: NDArray[Any], some: NDArray[np.bool_], weight: float, share: float = BEST_FIFTH
) -> float:
    """Return the step that takes the best fifth of some songs past a `share` of the others.

    By default to where the best fifth of those begins. Where a ranker keeps known and unknown
    songs far apart, `weight` alone would not cross the gap. 0 where they already lie on the side
    that the weight's sign wishes for, or where there is but one kind.
    """
    if weight == 0 or some.all() or not some.any():
        return 0.0
    theirs = float(np.quantile(scores[some], BEST_FIFTH))
    gap = (float(np.quantile(scores[~some], share)) - theirs) / unit(scores)
    return min(gap, 0.0) if weight < 0 else max(gap, 0.0)


def unit(scores: NDArray[Any]) -> float:
    """Return the standard deviation of a pool's scores, in which wishes are weighed."""
    return (float(standard_deviation(scores)) or 1.0) if len(scores) else 1.0
