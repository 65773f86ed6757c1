"""The compiled loops of `features.pair_groups`: all that one group asks of arrays, in one walk.

The tests of the groups hold them to what they say.
"""

from typing import Any, Final

import numpy as np

from features.compiled import distances, first_and_count, in_order
from features.times import DAY_US

NAN: Final = np.float32(np.nan)


@in_order
def own_songs(history: Any, last_us: Any, values: Any, candidates: Any, now_us: int) -> Any:
    """Return each candidate's place in a history, the days since it was heard, and its values.

    Shape (2 + signals, candidates), NaN for songs that are not in the history. `values` is a tuple
    of arrays, one a signal, aligned with `history` as `last_us` is.
    """
    found = np.full((2 + len(values), len(candidates)), NAN, np.float32)
    places, times = first_and_count(history, candidates)
    for i in range(len(candidates)):
        if times[i] > 0:
            place = places[i]
            found[0, i] = place
            found[1, i] = (now_us - last_us[place]) / DAY_US
            for signal in range(len(values)):
                found[2 + signal, i] = values[signal][place]
    return found


@in_order
def own_plays(session: Any, skipped: Any, radio: int, candidates: Any) -> Any:
    """Return how often each candidate was played, how many places ago last, and if it was skipped.

    Shape (3, candidates). The first `radio` songs of the session were not played; a song that was
    not played is no places ago (NaN).
    """
    found = np.zeros((3, len(candidates)), np.float32)
    found[1] = NAN
    for i in range(len(candidates)):
        for place in range(len(session)):
            if session[place] == candidates[i]:
                if place >= radio:
                    found[0, i] += np.float32(1)
                    found[1, i] = len(session) - place
                if skipped[place]:
                    found[2, i] = 1
    return found


@in_order
def means_of_known(columns: Any) -> Any:
    """Return the mean of each column's known numbers, NaN where none is; shape (columns,)."""
    means = np.empty(len(columns), np.float32)
    for column in range(len(columns)):
        total, known = np.float32(0), 0
        for value in columns[column]:
            if np.isfinite(value):
                total += value
                known += 1
        means[column] = total / np.float32(known) if known > 0 else NAN
    return means


@in_order
def steps_of_sound(audio: Any, last: Any, centre: Any) -> Any:
    """Return how far candidates lie from a song by its first three features, and from a centre.

    Shape (4, candidates), NaN where something is not known; `audio` is (features, candidates).
    """
    found = np.empty((4, audio.shape[1]), np.float32)
    for axis in range(3):
        for i in range(audio.shape[1]):
            found[axis, i] = abs(audio[axis, i] - last[axis])
    found[3] = distances(audio, centre)
    return found
