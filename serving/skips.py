"""What skips of the running session cost the songs that are like the skipped. Pure functions.

The ranker sees skips by the skip factors, the share skipped and whether a song itself was skipped,
but no feature says that it was this artist, genre, mood or tempo that was skipped. This cost stands
in for such features, after the ranker, in evaluation as in serving.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Catalogue, IntArray
from features.columns import Song
from features.compiled import standard_deviation
from features.params import Feedback
from features.state import State
from serving.compiled import weighted_likeness

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

    For each of artist, genre, mood and tempo: how much more like the skipped songs than like those
    heard it is, each place back in the session counting `decay` times, at most 1; times its weight,
    times the standard deviation of the scores.
    """
    if not state.skipped.any() or len(candidates) == 0:
        return np.zeros(len(candidates))
    # A radio's seeds stand first in the session, but nobody heard them out.
    session, skipped = state.played[-LATEST:], state.skipped[state.radio :][-LATEST:]
    weight = params.decay ** np.arange(len(session))[::-1] * np.where(skipped, 1.0, -1.0)
    weights = np.array([params.artist, params.genre, params.mood, params.tempo])
    excess = np.clip(likeness(songs, candidates, session, weight), 0.0, 1.0)
    return weights @ excess * float(standard_deviation(scores))


def likeness(
    songs: Catalogue, candidates: IntArray, session: IntArray, weight: NDArray[Any]
) -> NDArray[np.float64]:
    """Return how like the session's songs each candidate is, shape (4, candidates).

    By artist and by genre, 1 where the first one is the same; by mood, the share of the session
    song's moods; by tempo, exp(-(d / width)^2) of the distance in standardised tempo; 0 where
    unknown. Each times the session song's weight, added up.
    """
    artists, genres = (songs.codes[name].codes for name in (Song.ARTISTS, Song.GENRES))
    tempi = songs.audio[:, TEMPO_COLUMN]
    found: NDArray[np.float64] = weighted_likeness(
        artists, genres, songs.tags[Song.MOODS].has, tempi, candidates, session, weight, TEMPO_WIDTH
    )
    return found
