"""Names, search and similarity over a bundle's catalogue, without pandas at request time."""

import mmap
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from features.arrays import map_arrays, save_arrays
from features.catalogue import Catalogue, IntArray
from features.columns import Song, SongRow
from serving.files import SEARCH_FILE, TEXT_FILE
from serving.generators import Neighbours, SignalFactors
from serving.retrieval import Retrieval
from serving.scores import best

# A search looks through at most so many songs' names.
SEARCHED: Final = 1_000_000
SIMILAR_FROM: Final = 1000
_ACCENTS: Final = dict.fromkeys(range(0x300, 0x370))


@dataclass(frozen=True)
class NameIndex:
    """The names of the most popular songs in one mapped text, the most popular first.

    Every field (title, each artist, id) is case-folded UTF-8 and follows a line break. Song
    `order[i]` starts at byte `starts[i]`.
    """

    text: mmap.mmap
    starts: NDArray[np.int64]
    order: IntArray

    def search(self, words: str, k: int) -> list[int]:
        """Return at most `k` song indices: names that begin with the words, then any others."""
        wanted = normal(words).encode()
        if not wanted:
            return []
        found: dict[int, None] = {}
        for song in chain(self._songs_with(b"\n" + wanted), self._songs_with(wanted)):
            found[song] = None
            if len(found) == k:
                break
        return list(found)

    def _songs_with(self, text: bytes) -> Iterator[int]:
        at = self.text.find(text)
        while at >= 0:
            place = int(np.searchsorted(self.starts, at, side="right")) - 1
            yield int(self.order[place])
            # On to the next song: a second hit in this one would say nothing new.
            end = self.starts[place + 1] if place + 1 < len(self.starts) else len(self.text)
            at = self.text.find(text, end)


@dataclass(frozen=True)
class Lookup:
    """Titles and artists by dense index, and what can be asked of a catalogue besides."""

    retrieval: Retrieval
    name_index: NameIndex

    def title(self, song: int) -> str | None:
        """Return a song's title, None where the source has none."""
        return self.retrieval.songs.names.title(song)

    def artist_names(self, song: int) -> list[str]:
        """Return a song's artists, main artist first."""
        return self.retrieval.songs.names.artists(song)

    def similar(
        self, song: int, k: int
    ) -> tuple[Literal["listen", "together", "none"], list[tuple[int, float]]]:
        """Return the nearest songs with their scores, nearest first, and what they come from.

        The cosine of the `listen` factors; for a song without factors, the weights of its
        `together` links.
        """
        listen = self.retrieval.generators.get("listen")
        if isinstance(listen, SignalFactors) and listen.model.known[song]:
            return "listen", self._by_cosine(listen, song, k)
        together = self.retrieval.generators.get("together")
        if isinstance(together, Neighbours):
            row = slice(together.links.indptr[song], together.links.indptr[song + 1])
            shown = ~self._hidden(together.links.indices[row])
            songs, weights = together.links.indices[row][shown], together.links.data[row][shown]
            if len(songs):
                return "together", [(int(songs[i]), float(weights[i])) for i in best(weights, k)]
        return "none", []

    def _by_cosine(self, listen: SignalFactors, song: int, k: int) -> list[tuple[int, float]]:
        vector = listen.model.item_factors[song]
        # The largest products of a large catalogue hold the largest cosines, popular songs first.
        if listen.index is None:
            songs = np.flatnonzero(listen.model.known).astype(np.int32)
        else:
            songs = listen.towards(vector).top(SIMILAR_FROM)
        rows = listen.model.item_factors[songs]
        length = np.linalg.norm(rows, axis=1) * np.linalg.norm(vector)
        cosine = np.where(length > 0, rows @ vector / np.where(length > 0, length, 1), 0)
        hidden = (songs == song) | self._hidden(songs)
        cosine[hidden] = -np.inf
        nearest = best(cosine, min(k, int(np.count_nonzero(~hidden))))
        # Rounding may take equal songs past 1.
        return [(int(songs[i]), min(float(cosine[i]), 1.0)) for i in nearest]

    def _hidden(self, songs: IntArray) -> NDArray[np.bool_]:
        """Tell which songs may be played no more."""
        withdrawn = self.retrieval.songs.withdrawn
        return np.zeros(len(songs), np.bool_) if withdrawn is None else withdrawn[songs]

    @cached_property
    def vocabulary(self) -> dict[str, list[str]]:
        """Words by kind of context: tags, eras, and the languages and regions of listeners."""
        songs = self.retrieval.songs
        return {
            "occasion": songs.tags[Song.OCCASIONS].vocabulary.tolist(),
            "mood": songs.tags[Song.MOODS].vocabulary.tolist(),
            "era": songs.codes["era"].vocabulary.tolist(),
            "language": _words(songs, Song.LANGUAGE, songs.listener_languages),
            "region": _words(songs, Song.REGION, songs.listener_regions),
        }


def lookup(retrieval: Retrieval, folder: Path) -> Lookup:
    """Map the search text of a bundle."""
    stored = map_arrays(folder / SEARCH_FILE)
    with (folder / TEXT_FILE).open("rb") as file:
        text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return Lookup(retrieval, NameIndex(text, stored["starts"], stored["order"]))


def normal(text: str) -> str:
    """Fold case, runs of white space, and the accents of letters: `bjork` finds Björk."""
    parted = unicodedata.normalize("NFKD", text.casefold())
    # Of alphabets whose vowels are marks, too, these are none. An accent alone leaves a blank.
    bare = " ".join(parted.translate(_ACCENTS).split())
    return unicodedata.normalize("NFC", bare)


def save_search(songs: Catalogue, folder: Path) -> None:
    """Write the search text of the `SEARCHED` most popular songs, without withdrawn ones."""
    popularity = np.nan_to_num(songs.numbers[SongRow.POPULARITY])
    order = np.argsort(-popularity, kind="stable").astype(np.int32)
    if songs.withdrawn is not None:
        order = order[~songs.withdrawn[order]]
    order = order[:SEARCHED]
    starts = np.zeros(len(order), dtype=np.int64)
    end = 0
    with (folder / TEXT_FILE).open("wb") as file:
        for place, song in enumerate(order.tolist()):
            starts[place] = end
            fields = (songs.names.title(song) or "", *songs.names.artists(song), songs.ids[song])
            end += file.write("".join("\n" + normal(field) for field in fields).encode())
    save_arrays(folder / SEARCH_FILE, {"starts": starts, "order": order})


def _words(songs: Catalogue, column: str, of_listeners: dict[str, int]) -> list[str]:
    return sorted({*songs.codes[column].vocabulary.tolist(), *of_listeners})
