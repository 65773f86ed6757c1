"""Features that tie each candidate to single songs of the session and of the history."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from features.catalogue import FloatArray, IntArray
from features.pairs import Group, find
from features.state import State
from serving.compiled import steps_of_links
from serving.compiled_sessions import loops_here
from serving.continuations import Continuations

NEAR = 5
STEPS = 5
MINUTE_US = 60_000_000
STEP_NAMES = ("step_last", "step_mean", "step_known")
TOGETHER_US = 60 * MINUTE_US


@dataclass(frozen=True)
class Links:
    """Fitted transitions (from song, to song), and song vectors with rows of length 1."""

    transitions: csr_matrix | None
    vectors: FloatArray | None
    continuations: Continuations | None = None

    def features(self, state: State, songs: IntArray) -> Group:
        """Return one column a feature, aligned with `songs`; NaN where nothing links."""
        return {
            **self.nearness(state, songs),
            **self.loops(state, songs),
            **self.own_order(state, songs),
            **self.steps(state),
            **(self.continuations.features(state, songs) if self.continuations else {}),
        }

    def steps(self, state: State) -> Group:
        """How well links foretold the session's last steps: an album in its order, or a shuffle."""
        if self.transitions is None:
            return {}
        matrix, songs = self.transitions, state.course[-STEPS - 1 :]
        if len(songs) < 2:
            return dict.fromkeys(STEP_NAMES, np.nan)
        found = steps_of_links(matrix.indptr, matrix.indices, matrix.data, songs)
        return dict(zip(STEP_NAMES, found, strict=True))

    def nearness(self, state: State, songs: IntArray) -> Group:
        """How near the song lies to the session's last ones, by the cosine of their vectors."""
        if self.vectors is None:
            return {}
        near = self.vectors[state.course[::-1][:NEAR]]
        if not len(near):
            return {"near_last": np.nan, "near_most": np.nan, "near_mean": np.nan}
        cosine = self.vectors[songs] @ near.T
        return {
            "near_last": cosine[:, 0],
            "near_most": cosine.max(axis=1),
            "near_mean": cosine.mean(axis=1),
        }

    def loops(self, state: State, songs: IntArray) -> Group:
        """How often the song followed the current one in this session, and how lately."""
        (counts, latest), times = loops_here(state.course, songs)
        return {"loop_count": counts, "loop_latest": latest, "current_plays": times}

    def own_order(self, state: State, songs: IntArray) -> Group:
        """Minutes from the listener's last play of the current song to that of the candidate."""
        if not len(state.course) or not len(state.history):
            return {"own_minutes_after": np.nan}
        place, times = find(state.history, state.course[-1:])
        if not times[0]:
            return {"own_minutes_after": np.nan}
        theirs, seen = find(state.history, songs)
        gap = state.history_last_us[theirs] - state.history_last_us[place[0]]
        near = (seen > 0) & (np.abs(gap) <= TOGETHER_US)
        return {"own_minutes_after": np.where(near, gap / MINUTE_US, np.nan)}
