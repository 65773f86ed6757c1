"""Time of the week at the time of a request: daypart features, and the factorised tensor.

What `training.dayparts` and `training.tensor` fitted, over dayparts in the listener's local time.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from features.catalogue import FloatArray, IntArray
from features.columns import UserRow
from features.compiled import taken
from features.dayparts import DAYPARTS
from features.pairs import Group, daypart_at, find
from features.state import State
from serving.fold_in import solve
from serving.scores import NO_SCORES, FactorScores, Scores

LEAST: Final = 1e-6


@dataclass(frozen=True)
class Dayparts:
    """How songs, and a listener's own songs, lie over the 28 dayparts.

    `base` (28,) is everybody's share a daypart; `vectors` (28, factors) are the exact factors of
    (listener, song) pairs x dayparts, `song_factors` (songs, factors) the songs' plays in them;
    `parts` (parts, 28) and `song_parts` (songs, parts) the same without negative numbers; `again`
    (28, 28) is how much likelier than by chance a song heard at one daypart is heard at another
    by the same listener; `totals` (songs,) are recency-weighted plays.
    """

    base: FloatArray
    vectors: FloatArray
    song_factors: FloatArray
    parts: FloatArray
    song_parts: FloatArray
    again: FloatArray
    totals: FloatArray
    prior: float

    def features(self, state: State, songs: IntArray) -> Group:
        """Return one column a feature, aligned with `songs`: 1 is as by chance, NaN is unknown."""
        here = now(state)
        exact = self.song_factors[songs] @ self.vectors[here]
        parts = self.song_parts[songs] @ self.parts[:, here]
        place, times = find(state.history, songs)
        again = self.again[last_heard(state), here]
        return {
            "song_daypart": self._lift(exact, songs, here),
            "song_daypart_parts": self._lift(parts, songs, here),
            "own_daypart": taken(again, place, times),
            "listener_dayparts": self._alike(state, songs),
        }

    def _lift(self, heard: FloatArray, songs: IntArray, here: int) -> FloatArray:
        """Return the share heard here over everybody's, shrunk to 1 by `prior` plays."""
        usual = max(float(self.base[here]), LEAST)
        return (np.maximum(heard, 0) / usual + self.prior) / (self.totals[songs] + self.prior)

    def _alike(self, state: State, songs: IntArray) -> FloatArray:
        """Return the cosine between the listener's usual dayparts and each song's, as factors."""
        shares = state.query.user.get(UserRow.DAYPART_SHARES)
        if shares is None or len(shares) != DAYPARTS:
            return np.full(len(songs), np.nan, dtype=np.float32)
        usual = np.asarray(shares, dtype=np.float32) @ self.vectors
        own = self.song_factors[songs]
        norm = np.linalg.norm(own, axis=1) * np.linalg.norm(usual)
        return np.where(norm > LEAST, own @ usual / np.maximum(norm, LEAST), np.nan)


@dataclass(frozen=True)
class TensorFactors:
    """The tensor listener x song x daypart; the listener is folded in, the daypart is now.

    `item_factors` is (songs, factors), zero rows where `known` is False; `daypart_factors`
    (28, factors). The store knows when each song of the history was heard last, so all its plays
    count there.
    """

    item_factors: FloatArray
    daypart_factors: FloatArray
    known: NDArray[np.bool_]
    regularization: float
    alpha: float

    @cached_property
    def system(self) -> FloatArray:
        """ZtZ + reg I of all (song, daypart) cells Z, shape (factors, factors)."""
        songs = self.item_factors.T @ self.item_factors
        dayparts = self.daypart_factors.T @ self.daypart_factors
        return songs * dayparts + self.regularization * np.eye(len(songs), dtype=np.float32)

    def scores(self, state: State) -> Scores:
        """Return the folded-in listener's scores at this daypart; none without observations."""
        here = now(state)
        songs = np.concatenate([state.history, state.acted])
        when = np.concatenate([last_heard(state), np.full(len(state.acted), here)])
        values = np.concatenate([state.history_values["listen"], state.session_values["listen"]])
        use = (values > 0) & self.known[songs]
        if not use.any():
            return NO_SCORES
        cells = self.item_factors[songs[use]] * self.daypart_factors[when[use]]
        numbers = songs[use].astype(np.int64) * DAYPARTS + when[use]
        vector = solve(lambda _: self.system, cells, self.alpha * values[use], numbers)
        return FactorScores(vector * self.daypart_factors[here], self.item_factors, self.known)


def now(state: State) -> int:
    """Return the local daypart of the request."""
    return int(daypart_at(state.query.user, state.ts_us))


def last_heard(state: State) -> IntArray:
    """Return the local daypart at which each song of the history was heard last."""
    return np.asarray(daypart_at(state.query.user, state.history_last_us), dtype=np.int32)
