"""What skips of the running session cost the songs that are like the skipped. Pure functions.

The ranker sees skips by the skip factors, the share skipped and whether a song itself was skipped,
but no feature says that it was this artist, mood or tempo that was skipped. This cost stands in for
such features, after the ranker, in evaluation as in serving.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Catalogue, FloatArray, IntArray
from features.columns import Song
from features.params import Feedback
from features.state import State

LATEST: Final = 20
# Tempi half a standard deviation apart are much alike, two apart are not.
TEMPO_WIDTH: Final = 0.5
TEMPO_COLUMN: Final = Song.AUDIO.index(Song.TEMPO)


def skip_cost(
    state: State,
    songs: Catalogue,
    candidates: IntArray,
    scores: NDArray[np.float64],
    params: Feedback,
) -> NDArray[np.float64]:
    """Return what is taken off each candidate's score; zeros in a session without skips.

    For each of artist, mood and tempo: how much more like the skipped songs than like those heard
    it is, each place back in the session counting `decay` times, at most 1; times its weight, times
    the standard deviation of the scores.
    """
    if not state.skipped.any() or len(candidates) == 0:
        return np.zeros(len(candidates))
    session, skipped = state.session[-LATEST:], state.skipped[-LATEST:]
    weight = params.decay ** np.arange(len(session))[::-1] * np.where(skipped, 1.0, -1.0)
    cost = (
        params.artist * _excess(same_artist(songs, candidates, session), weight)
        + params.mood * _excess(shared_moods(songs, candidates, session), weight)
        + params.tempo * _excess(like_tempo(songs, candidates, session), weight)
    )
    return cost * float(np.std(scores))


def same_artist(songs: Catalogue, candidates: IntArray, session: IntArray) -> FloatArray:
    """Return 1 where candidate and song share the first artist, shape (candidates, session)."""
    codes = songs.codes[Song.ARTISTS].codes
    ours, theirs = codes[candidates][:, None], codes[session][None, :]
    return ((ours == theirs) & (ours >= 0)).astype(np.float32)


def shared_moods(songs: Catalogue, candidates: IntArray, session: IntArray) -> FloatArray:
    """Return the share of a session song's moods that a candidate has; 0 where it has none."""
    moods = songs.tags[Song.MOODS].has
    ours, theirs = (moods[rows].astype(np.float32) for rows in (candidates, session))
    return (ours @ theirs.T) / np.maximum(theirs.sum(axis=1), 1)


def like_tempo(songs: Catalogue, candidates: IntArray, session: IntArray) -> FloatArray:
    """Return exp(-(d / width)^2) of the distance in standardised tempo; 0 where unknown."""
    tempo = songs.audio[:, TEMPO_COLUMN]
    distance = tempo[candidates][:, None] - tempo[session][None, :]
    return np.nan_to_num(np.exp(-((distance / TEMPO_WIDTH) ** 2)))


def _excess(likeness: FloatArray, weight: NDArray[Any]) -> NDArray[Any]:
    return np.clip(likeness @ weight, 0.0, 1.0)
