"""One query with its candidates, and columns of values that its features are made of.

All candidates at once; NaN means "not known", never zero.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Catalogue, FloatArray, IntArray
from features.columns import User
from features.compiled import (
    columns_of,
    distances,
    equals,
    first_and_count,
    is_among,
    shares_among,
    shares_at,
)
from features.compiled_groups import means_of_known
from features.dayparts import BLOCKS, local_daypart
from features.state import State
from features.times import DAY_SECONDS, SECOND_US

# Up to so many, comparing each with each is faster than sorting.
MOST_COMPARED: Final = 512
# One value a candidate; None where nothing is known of any.
Column = FloatArray | None
# By name a value a candidate, one for all of them, or None: not known.
Group = dict[str, Any]


@dataclass(frozen=True)
class Pairs:
    """One query with its candidates, dense indices of shape (n,)."""

    state: State
    songs: Catalogue
    candidates: IntArray

    @property
    def row(self) -> Any:
        """The listener's feature row; empty for an unknown listener."""
        return self.state.query.user

    def number(self, name: str) -> FloatArray:
        """Return a song column for the candidates."""
        return self.numbers[self.songs.number_places[name]]

    def code(self, name: str) -> IntArray:
        """Return a song's code column for the candidates."""
        return self.codes[name]

    @cached_property
    def numbers(self) -> FloatArray:
        """All number columns of the candidates, then the audio features: (columns, candidates)."""
        return columns_of(self.songs.numbers_of, self.candidates)[0]

    @cached_property
    def codes(self) -> dict[str, IntArray]:
        """All code columns of the candidates."""
        columns = columns_of(self.songs.codes_of, self.candidates)[0]
        return dict(zip(self.songs.codes, columns, strict=True))

    @cached_property
    def session_codes(self) -> dict[str, IntArray]:
        """All code columns of the session's songs."""
        columns = columns_of(self.songs.codes_of, self.state.course)[0]
        return dict(zip(self.songs.codes, columns, strict=True))

    @cached_property
    def session_numbers(self) -> FloatArray:
        """All number columns of the session's songs, then the audio features: (columns, songs)."""
        return columns_of(self.songs.numbers_of, self.state.course)[0]

    @cached_property
    def session_means(self) -> FloatArray:
        """The mean of each of these columns over the songs that it is known of."""
        means: FloatArray = means_of_known(self.session_numbers)
        return means

    @property
    def audio(self) -> FloatArray:
        """Standardised audio features of the candidates, shape (features, candidates)."""
        return self.numbers[len(self.songs.number_places) :]

    def share(self, name: str, keys: str, shares: str) -> Column:
        """Return the listener's share for each candidate's code; NaN where either is unknown."""
        words = self.row.get(keys)
        if words is None or len(words) == 0:
            return None
        # By the few words, not by the vocabulary: there may be millions of artists.
        of_words = self.songs.codes[name].vocabulary.find(list(words))
        values = np.asarray(self.row[shares], dtype=np.float32)
        found: FloatArray = shares_at(self.code(name), of_words, values)
        return found


def local_hour(row: Mapping[str, Any], ts_us: int) -> tuple[int, int]:
    """Return the listener's local weekday (Monday is 0) and hour; UTC where no offset is known."""
    local = ts_us // SECOND_US + utc_offset(row) * 60
    return int(daypart_at(row, ts_us) // len(BLOCKS)), int(local % DAY_SECONDS // 3600)


def daypart_at(row: Mapping[str, Any], ts_us: Any) -> Any:
    """Return the listener's local daypart at a moment, or at each of an array of moments."""
    return local_daypart(ts_us // SECOND_US, utc_offset(row))


def utc_offset(row: Mapping[str, Any]) -> int:
    """Return the listener's offset from UTC in minutes, 0 where it is not known."""
    offset = row.get(User.UTC_OFFSET)
    return 0 if offset is None or missing(offset) else int(offset)


def missing(value: object) -> bool:
    """Tell whether a scalar is None or NaN."""
    return value is None or value != value


def scalar(pairs: Pairs, name: str) -> float:
    """Return a number of the listener's row, NaN where absent."""
    value = pairs.row.get(name)
    return np.nan if missing(value) else float(value)


def find(songs: IntArray, wanted: IntArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for each wanted song its first position in `songs` and how often it comes there.

    Where it never comes, the position means nothing.
    """
    return first_and_count(songs, wanted)


def share_of(codes: IntArray, session_codes: IntArray) -> Column:
    """Return the share of the session with each candidate's code; NaN where unknown."""
    return shares_among(codes, session_codes) if len(session_codes) else None


def known_codes(code_of: Mapping[str, int], words: Sequence[str]) -> IntArray:
    """Return the codes of those words that have one."""
    codes = [code_of.get(word, -1) for word in words]
    return np.array([code for code in codes if code >= 0], dtype=np.int32)


def among(values: IntArray, few: IntArray) -> NDArray[np.bool_]:
    """Tell which values are among a few others."""
    return np.isin(values, few) if len(few) > MOST_COMPARED else is_among(values, few)


def where_known(codes: IntArray, values: NDArray[Any]) -> FloatArray:
    """Return the values, NaN for candidates without a code."""
    return np.where(codes >= 0, values, np.float32(np.nan))


def same_as_last(codes: IntArray, session_codes: IntArray) -> Column:
    """Tell whether each candidate's code is that of the last song; NaN where unknown."""
    if len(session_codes) == 0 or session_codes[-1] < 0:
        return None
    same: FloatArray = equals(codes, session_codes[-1])
    return same


def tag_match(pairs: Pairs, name: str, tag: object) -> Column:
    """Return 1 or 0 for tagged songs, NaN for untagged ones or where nothing is asked."""
    tags = pairs.songs.tags[name]
    if missing(tag) or not tags.has.size:
        return None
    rows = tags.has[pairs.candidates]
    column = tags.code_of.get(str(tag))
    match = np.zeros(len(rows), np.float32) if column is None else rows[:, column]
    return np.where(rows.any(axis=1), match, np.nan)


def audio_distance(pairs: Pairs, centre: Any, standardised: bool = False) -> Column:
    """Return the Euclidean distance in standardised audio features; NaN where unknown."""
    if centre is None or len(centre) != len(pairs.audio):
        return None
    point = np.asarray(centre, dtype=np.float32)
    if not standardised:
        point = (point - pairs.songs.audio_mean) / pairs.songs.audio_spread
    distance: FloatArray = distances(pairs.audio, point)
    return distance
