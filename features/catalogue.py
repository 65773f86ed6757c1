"""The songs a model knows, as columns over a dense index.

Strings live in the vocabularies; the columns hold small integer codes, -1 where absent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.columns import Song, SongRow

IntArray = NDArray[np.int32]
FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Codes:
    """One string column as codes into its sorted vocabulary."""

    codes: IntArray
    vocabulary: NDArray[np.str_]

    @cached_property
    def code_of(self) -> dict[str, int]:
        """Map each word to its code."""
        return {str(word): code for code, word in enumerate(self.vocabulary)}


@dataclass(frozen=True)
class Tags:
    """One list column as a dense 0/1 matrix, rows songs, columns the sorted vocabulary."""

    has: NDArray[np.bool_]
    vocabulary: NDArray[np.str_]

    @cached_property
    def code_of(self) -> dict[str, int]:
        """Map each tag to its column."""
        return {str(word): code for code, word in enumerate(self.vocabulary)}


@dataclass(frozen=True)
class Catalogue:
    """Song columns in ascending order of song id; `frame` keeps the rows as they came."""

    frame: pd.DataFrame
    ids: NDArray[np.str_]
    codes: dict[str, Codes]
    tags: dict[str, Tags]
    numbers: dict[str, FloatArray]
    audio: FloatArray
    audio_mean: FloatArray
    audio_spread: FloatArray
    region_popularity: FloatArray
    language_popularity: FloatArray
    listener_regions: dict[str, int]
    listener_languages: dict[str, int]

    def __len__(self) -> int:
        """Return the number of songs."""
        return len(self.ids)

    @cached_property
    def index_of(self) -> dict[str, int]:
        """Map each song id to its dense index."""
        return {str(song): i for i, song in enumerate(self.ids)}

    def indices(self, song_ids: Sequence[str]) -> IntArray:
        """Return dense indices, -1 for unknown ids."""
        find = self.index_of.get
        return np.fromiter((find(s, -1) for s in song_ids), dtype=np.int32, count=len(song_ids))


def catalogue(songs: pd.DataFrame) -> Catalogue:
    """Build the columns from one row a song (columns of `Song` and `SongRow`).

    Raises
    ------
    ValueError
        If there is no song, or one comes twice.
    """
    frame = songs.sort_values(Song.ID, ignore_index=True)
    if frame.empty or frame[Song.ID].duplicated().any():
        raise ValueError("A catalogue needs one row per song and at least one song.")
    artists = frame[Song.ARTISTS].map(first_of)
    genres = frame[Song.GENRES].map(first_of)
    columns = {Song.ARTISTS: artists, Song.GENRES: genres} | {
        name: frame[name] for name in (Song.ALBUM, Song.LANGUAGE, Song.REGION)
    }
    era = np.floor(_numbers(frame, Song.RELEASE_YEAR) / 10) * 10
    region_popularity, regions = _spread(frame, SongRow.REGION_KEYS, SongRow.REGION_POPULARITY)
    language_popularity, languages = _spread(
        frame, SongRow.LANGUAGE_KEYS, SongRow.LANGUAGE_POPULARITY
    )
    audio = np.column_stack([_numbers(frame, name) for name in Song.AUDIO])
    mean, spread = _location_and_spread(audio)
    return Catalogue(
        frame=frame,
        ids=frame[Song.ID].to_numpy(dtype=np.str_),
        codes={name: encode(values) for name, values in columns.items()}
        | {"era": encode(pd.Series(era).map(era_name))},
        tags={name: encode_tags(frame[name]) for name in (Song.MOODS, Song.OCCASIONS)},
        numbers={name: _numbers(frame, name) for name in _NUMBERS},
        audio=(audio - mean) / spread,
        audio_mean=mean,
        audio_spread=spread,
        region_popularity=region_popularity,
        language_popularity=language_popularity,
        listener_regions=regions,
        listener_languages=languages,
    )


_NUMBERS = (
    Song.RELEASE_YEAR,
    Song.DURATION_MS,
    SongRow.PLAYS,
    SongRow.LISTENERS,
    SongRow.POPULARITY,
    SongRow.POPULARITY_PERCENTILE,
    SongRow.TREND,
    SongRow.SKIP_SHARE,
    SongRow.LIKE_SHARE,
    SongRow.AGE_DAYS,
)


def first_of(values: object) -> str | None:
    """Return the first entry of a list cell, None where there is none."""
    if isinstance(values, list | tuple | np.ndarray) and len(values):
        return str(values[0])
    return None


def era_name(decade: float) -> str | None:
    """Return the decade as the string that `era_keys` uses, e.g. "1990"."""
    return None if np.isnan(decade) else str(int(decade))


def encode(values: "pd.Series[str]") -> Codes:
    """Encode one string per song; null becomes -1."""
    codes, words = pd.factorize(values, sort=True)
    return Codes(codes.astype(np.int32), np.asarray(words, dtype=np.str_))


def encode_tags(values: pd.Series) -> Tags:
    """Encode a list of strings per song."""
    rows = values.map(lambda v: list(v) if isinstance(v, list | tuple | np.ndarray) else [])
    pairs = rows.explode().dropna()
    codes, words = pd.factorize(pairs, sort=True)
    has = np.zeros((len(values), len(words)), dtype=np.bool_)
    has[pairs.index.to_numpy(), codes] = True
    return Tags(has, np.asarray(words, dtype=np.str_))


def _numbers(frame: pd.DataFrame, name: str) -> FloatArray:
    return pd.to_numeric(frame[name]).to_numpy(dtype=np.float32, na_value=np.nan)


def _location_and_spread(columns: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return mean and standard deviation a column; 0 and 1 where nothing is known or varies."""
    known = np.isfinite(columns)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, columns, 0).sum(axis=0) / count
    spread = np.sqrt((np.where(known, columns - mean, 0) ** 2).sum(axis=0) / count)
    return mean.astype(np.float32), np.where(spread > 0, spread, 1).astype(np.float32)


def _spread(frame: pd.DataFrame, keys: str, values: str) -> tuple[FloatArray, dict[str, int]]:
    """Turn aligned key and value lists into a dense matrix, rows songs, columns sorted keys."""
    long = pd.DataFrame({"key": frame[keys], "value": frame[values]}).explode(["key", "value"])
    long = long.dropna()
    codes, words = pd.factorize(long["key"], sort=True)
    matrix = np.zeros((len(frame), len(words)), dtype=np.float32)
    matrix[long.index.to_numpy(), codes] = long["value"].to_numpy(dtype=np.float32)
    return matrix, {str(word): code for code, word in enumerate(words)}
