"""The songs a model knows, as columns over a dense index.

Strings live in the vocabularies; the columns hold small integer codes, -1 where absent. What a
request reads of one song lies together: one row of `numbers_of`, one of `codes_of`. All arrays may
be memory-mapped (`save_catalogue`, `map_catalogue`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from features.arrays import map_arrays, save_arrays
from features.columns import Song, SongRow
from features.names import Names, map_names, names, save_names
from features.words import Words

IntArray = NDArray[np.int32]
FloatArray = NDArray[np.float32]


# The code of a word, or the place of a song, that the catalogue lacks. It equals nothing, whereas
# -1 stands for "none" among the codes and places of songs.
ABSENT: Final = -2
SONGS_FILE: Final = "songs.npz"
NAMES_FILE: Final = "songs.arrow"


@dataclass(frozen=True)
class Codes:
    """One string column as codes into its sorted vocabulary."""

    codes: IntArray
    vocabulary: Words

    @property
    def code_of(self) -> Mapping[str, int]:
        """Map each word to its code."""
        return self.vocabulary.places

    def code(self, word: str) -> int:
        """Return a word's code, `ABSENT` where no song has it."""
        return self.code_of.get(word, ABSENT)


@dataclass(frozen=True)
class Tags:
    """One list column as a dense 0/1 matrix, rows songs, columns the sorted vocabulary."""

    has: NDArray[np.bool_]
    vocabulary: Words

    @property
    def code_of(self) -> Mapping[str, int]:
        """Map each tag to its column."""
        return self.vocabulary.places


@dataclass(frozen=True)
class Catalogue:
    """Song columns in ascending order of song id.

    `arrays` holds all of them by name, as `save_catalogue` writes them; the rest are views.
    """

    arrays: Mapping[str, NDArray[Any]]
    names: Names

    def __len__(self) -> int:
        """Return the number of songs."""
        return len(self.ids)

    @cached_property
    def ids(self) -> Words:
        """The song ids, ascending."""
        return Words(self.arrays["ids"])

    @property
    def index_of(self) -> Mapping[str, int]:
        """Map each song id to its dense index."""
        return self.ids.places

    def indices(self, song_ids: Sequence[str]) -> IntArray:
        """Return dense indices, -1 for unknown ids."""
        return self.ids.find(song_ids)

    def durations(self, song_ids: Sequence[str]) -> FloatArray:
        """Return how long songs last, in ms, NaN where that is unknown."""
        places = self.indices(song_ids)
        found: FloatArray = np.where(places >= 0, self.numbers[Song.DURATION_MS][places], np.nan)
        return found

    @cached_property
    def codes(self) -> dict[str, Codes]:
        """String columns by name; `era` is the decade."""
        table, columns = self.codes_of, _listed(self.arrays["code_names"])
        return {
            name: Codes(table[:, i], Words(self.arrays[f"words_{name}"]))
            for i, name in enumerate(columns)
        }

    @cached_property
    def tags(self) -> dict[str, Tags]:
        """List columns by name."""
        return {
            name: Tags(self.arrays[f"tags_{name}"], Words(self.arrays[f"words_{name}"]))
            for name in TAGS
        }

    @property
    def explicit(self) -> NDArray[np.bool_] | None:
        """Which songs are explicit, None where the source is silent."""
        return self.arrays.get(Song.EXPLICIT)

    @property
    def withdrawn(self) -> NDArray[np.bool_] | None:
        """Which songs may be played no more, None where the source is silent."""
        return self.arrays.get(Song.WITHDRAWN)

    @cached_property
    def regions_available(self) -> Tags | None:
        """Where each song may be played, None where the source is silent."""
        name = Song.REGIONS_AVAILABLE
        has = self.arrays.get(f"tags_{name}")
        if has is None or not has.size:
            return None
        return Tags(has, Words(self.arrays[f"words_{name}"]))

    @cached_property
    def numbers(self) -> dict[str, FloatArray]:
        """Number columns by name, NaN where absent."""
        return {name: self.numbers_of[:, i] for name, i in self.number_places.items()}

    @cached_property
    def number_places(self) -> dict[str, int]:
        """Columns of `numbers_of` by name."""
        return {name: i for i, name in enumerate(_listed(self.arrays["number_names"]))}

    @cached_property
    def numbers_of(self) -> FloatArray:
        """All number columns, then the audio features: one row a song."""
        return self.arrays["numbers"]

    @cached_property
    def codes_of(self) -> IntArray:
        """All code columns: one row a song."""
        return self.arrays["codes"]

    @cached_property
    def audio(self) -> FloatArray:
        """Audio features in units of their spread around their mean, shape (songs, features)."""
        return self.numbers_of[:, len(self.number_places) :]

    @property
    def audio_mean(self) -> FloatArray:
        """Mean of each audio feature."""
        return self.arrays["audio_mean"]

    @property
    def audio_spread(self) -> FloatArray:
        """Standard deviation of each audio feature."""
        return self.arrays["audio_spread"]

    @property
    def region_popularity(self) -> FloatArray:
        """Popularity by the listeners' region, shape (songs, regions)."""
        return self.arrays["region_popularity"]

    @property
    def language_popularity(self) -> FloatArray:
        """Popularity by the listeners' language, shape (songs, languages)."""
        return self.arrays["language_popularity"]

    @cached_property
    def listener_regions(self) -> dict[str, int]:
        """Columns of `region_popularity` by name."""
        return {name: i for i, name in enumerate(_listed(self.arrays["regions"]))}

    @cached_property
    def listener_languages(self) -> dict[str, int]:
        """Columns of `language_popularity` by name."""
        return {name: i for i, name in enumerate(_listed(self.arrays["languages"]))}


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
    region_popularity, regions = _by_key(frame, SongRow.REGION_KEYS, SongRow.REGION_POPULARITY)
    language_popularity, languages = _by_key(
        frame, SongRow.LANGUAGE_KEYS, SongRow.LANGUAGE_POPULARITY
    )
    audio = np.column_stack([_numbers(frame, name) for name in Song.AUDIO])
    mean, spread = _location_and_spread(audio)
    numbers = [_numbers(frame, name) for name in NUMBERS]
    arrays = {
        "ids": Words.of(frame[Song.ID].tolist()).keys,
        "number_names": _list(NUMBERS),
        "numbers": np.column_stack([*numbers, (audio - mean) / spread]),
        "audio_mean": mean,
        "audio_spread": spread,
        "region_popularity": region_popularity,
        "regions": _list(regions),
        "language_popularity": language_popularity,
        "languages": _list(languages),
    }
    return Catalogue(arrays | _coded(frame) | _tagged(frame) | _rights(frame), names(frame))


def save_catalogue(songs: Catalogue, folder: Path) -> None:
    """Write the catalogue so that `map_catalogue` can map it."""
    save_arrays(folder / SONGS_FILE, songs.arrays)
    save_names(folder / NAMES_FILE, songs.names.batches)


def map_catalogue(folder: Path) -> Catalogue:
    """Return a written catalogue, memory-mapped."""
    return Catalogue(map_arrays(folder / SONGS_FILE), map_names(folder / NAMES_FILE))


TAGS: Final = (Song.MOODS, Song.OCCASIONS)
NUMBERS: Final = (
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


def _coded(frame: pd.DataFrame) -> dict[str, NDArray[Any]]:
    """Encode the string columns, of lists the first entry; null becomes -1."""
    era = np.floor(_numbers(frame, Song.RELEASE_YEAR) / 10) * 10
    columns = {name: frame[name].map(first_of) for name in (Song.ARTISTS, Song.GENRES)}
    columns |= {name: frame[name] for name in (Song.ALBUM, Song.LANGUAGE, Song.REGION)}
    columns |= {"era": pd.Series(era).map(era_name)}
    encoded = {name: pd.factorize(values, sort=True) for name, values in columns.items()}
    table = np.column_stack([codes for codes, _ in encoded.values()]).astype(np.int32)
    words = {f"words_{name}": _list(found) for name, (_, found) in encoded.items()}
    return {"code_names": _list(columns), "codes": table} | words


def _tagged(frame: pd.DataFrame) -> dict[str, NDArray[Any]]:
    """Encode the list columns."""
    found = {name: encode_tags(frame[name]) for name in TAGS}
    has = {f"tags_{name}": tags.has for name, tags in found.items()}
    return has | {f"words_{name}": tags.vocabulary.keys for name, tags in found.items()}


def _rights(frame: pd.DataFrame) -> dict[str, NDArray[Any]]:
    """Encode what may be played to whom and where, as far as the source says; null bars nothing."""
    found: dict[str, NDArray[Any]] = {}
    for name in (Song.EXPLICIT, Song.WITHDRAWN):
        if name in frame:
            found[name] = frame[name].isin([True]).to_numpy(dtype=np.bool_)
    if Song.REGIONS_AVAILABLE in frame:
        tags = encode_tags(frame[Song.REGIONS_AVAILABLE])
        found[f"tags_{Song.REGIONS_AVAILABLE}"] = tags.has
        found[f"words_{Song.REGIONS_AVAILABLE}"] = tags.vocabulary.keys
    return found


def encode_tags(values: pd.Series) -> Tags:
    """Encode a list of strings per song."""
    rows = values.map(lambda v: list(v) if isinstance(v, list | tuple | np.ndarray) else [])
    pairs = rows.explode().dropna()
    codes, words = pd.factorize(pairs, sort=True)
    has = np.zeros((len(values), len(words)), dtype=np.bool_)
    has[pairs.index.to_numpy(), codes] = True
    return Tags(has, Words.of(list(words)))


def _numbers(frame: pd.DataFrame, name: str) -> FloatArray:
    return pd.to_numeric(frame[name]).to_numpy(dtype=np.float32, na_value=np.nan)


def _location_and_spread(columns: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return mean and standard deviation a column; 0 and 1 where nothing is known or varies."""
    known = np.isfinite(columns)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, columns, 0).sum(axis=0) / count
    spread = np.sqrt((np.where(known, columns - mean, 0) ** 2).sum(axis=0) / count)
    return mean.astype(np.float32), np.where(spread > 0, spread, 1).astype(np.float32)


def _by_key(frame: pd.DataFrame, keys: str, values: str) -> tuple[FloatArray, list[str]]:
    """Turn aligned key and value lists into a dense matrix, rows songs, columns sorted keys."""
    long = pd.DataFrame({"key": frame[keys], "value": frame[values]}).explode(["key", "value"])
    long = long.dropna()
    codes, words = pd.factorize(long["key"], sort=True)
    matrix = np.zeros((len(frame), len(words)), dtype=np.float32)
    matrix[long.index.to_numpy(), codes] = long["value"].to_numpy(dtype=np.float32)
    return matrix, [str(word) for word in words]


def _list(words: Any) -> NDArray[np.bytes_]:
    """Return strings as an array that needs no pickle."""
    return Words.of(list(words)).keys


def _listed(words: NDArray[np.bytes_]) -> list[str]:
    return Words(words).tolist()
