"""What came next where past sessions went like this one: matches of the last songs in a row."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from features.catalogue import FloatArray, IntArray
from features.pairs import Group
from features.params import Matches
from features.state import State
from serving.compiled_sessions import followers_of, longest_matches
from serving.scores import NO_SCORES, Scores, add_up


@dataclass(frozen=True)
class Continuations:
    """What directly followed the current song in past sessions, by how alike they had gone.

    A match is as long as the songs before and with the current one are, in a row, those that were
    played last here (as in prediction by partial matching; Cleary, Witten 1984). The matrices are
    those of `serving.generators.NearestSessions`.
    """

    song_sessions: csr_matrix
    session_songs: csr_matrix
    recency: FloatArray
    params: Matches

    def scores(self, state: State) -> Scores:
        """Return each follower's share of the matches' weights: recency x gain^(length - 1)."""
        songs, lengths, sessions = self._matches(state)
        if not len(songs):
            return NO_SCORES
        gains = self.params.gain ** (lengths - 1)
        weights = self.recency[sessions] * gains
        # Sessions so long ago that their recency is 0 in single precision are all alike.
        weights = weights if weights.any() else gains
        return add_up(songs, weights / weights.sum())

    def features(self, state: State, songs: IntArray) -> Group:
        """Return each song's longest match, and what the longest matches of all say.

        `match_share` is the song's share of the followers of the longest matches, `match_depth`
        their length and `match_times` their number.
        """
        followers, lengths, _ = self._matches(state)
        names = ("match_length", "match_share", "match_depth", "match_times")
        if not len(followers):
            return dict.fromkeys(names, np.nan)
        return dict(zip(names, longest_matches(followers, lengths, songs), strict=True))

    def _matches(self, state: State) -> tuple[IntArray, IntArray, IntArray]:
        """Return followers, their matches' lengths, and their sessions; found once a query."""
        context = state.seeds(self.params.longest)
        key = (Continuations, context.tobytes())
        if key not in state.worked_out:
            state.worked_out[key] = self._found(state, context)
        found: tuple[IntArray, IntArray, IntArray] = state.worked_out[key]
        return found

    def _found(self, state: State, context: IntArray) -> tuple[IntArray, IntArray, IntArray]:
        # They would be of the history, which is no run of songs to go on with.
        if not len(state.enjoyed):
            nothing = np.empty(0, dtype=np.int32)
            return nothing, nothing, nothing
        found: tuple[IntArray, IntArray, IntArray] = followers_of(
            self.song_sessions.indptr,
            self.song_sessions.indices,
            self.session_songs.indptr,
            self.session_songs.indices,
            context,
        )
        return found
