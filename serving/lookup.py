"""Names, search and similarity over a bundle's catalogue, without pandas at request time."""

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Catalogue, FloatArray, IntArray
from features.columns import Song, SongRow
from features.pairs import missing
from serving.generators import Neighbours, SignalFactors
from serving.retrieval import Retrieval
from serving.scores import best


@dataclass(frozen=True)
class Index:
    """All songs' names in one string, the most popular song first.

    Every field (title, each artist, id) is case-folded and follows a line break. Song `order[i]`
    starts at `starts[i]`.
    """

    text: str
    starts: list[int]
    order: IntArray

    def search(self, words: str, k: int) -> list[int]:
        """Return at most `k` song indices: names that begin with the words, then any others."""
        wanted = normal(words)
        if not wanted:
            return []
        found: dict[int, None] = {}
        for song in chain(self._songs_with("\n" + wanted), self._songs_with(wanted)):
            found[song] = None
            if len(found) == k:
                break
        return list(found)

    def _songs_with(self, text: str) -> Iterator[int]:
        at = self.text.find(text)
        while at >= 0:
            place = bisect_right(self.starts, at) - 1
            yield int(self.order[place])
            # On to the next song: a second hit in this one would say nothing new.
            end = self.starts[place + 1] if place + 1 < len(self.starts) else len(self.text)
            at = self.text.find(text, end)


@dataclass(frozen=True)
class Lookup:
    """Titles and artists by dense index, and what can be asked of a catalogue besides."""

    retrieval: Retrieval
    titles: NDArray[Any]
    artists: NDArray[Any]
    index: Index

    def title(self, song: int) -> str | None:
        """Return a song's title, None where the source has none."""
        return text_of(self.titles[song])

    def artist_names(self, song: int) -> list[str]:
        """Return a song's artists, main artist first."""
        return names_of(self.artists[song])

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
            songs, weights = together.links.indices[row], together.links.data[row]
            if len(songs):
                return "together", [(int(songs[i]), float(weights[i])) for i in best(weights, k)]
        return "none", []

    def _by_cosine(self, listen: SignalFactors, song: int, k: int) -> list[tuple[int, float]]:
        factors = listen.model.item_factors
        cosine = (factors @ factors[song]) / (self.norms * self.norms[song])
        cosine = np.where(listen.model.known, cosine, -np.inf)
        cosine[song] = -np.inf
        nearest = best(cosine, min(k, int(listen.model.known.sum()) - 1))
        return [(int(i), float(cosine[i])) for i in nearest]

    @cached_property
    def norms(self) -> FloatArray:
        """Lengths of the songs' `listen` factors; 1 where they are zero."""
        listen = self.retrieval.generators["listen"]
        if not isinstance(listen, SignalFactors):
            raise TypeError("The generator `listen` should hold factors.")
        norms = np.linalg.norm(listen.model.item_factors, axis=1)
        return np.where(norms > 0, norms, 1).astype(np.float32)

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


def lookup(retrieval: Retrieval) -> Lookup:
    """Build the names and the search text of a catalogue."""
    frame = retrieval.songs.frame
    titles = frame[Song.TITLE].to_numpy(dtype=object)
    artists = frame[Song.ARTISTS].to_numpy(dtype=object)
    return Lookup(retrieval, titles, artists, _index(retrieval.songs, titles, artists))


def normal(text: str) -> str:
    """Fold case and runs of white space."""
    return " ".join(text.casefold().split())


def text_of(cell: object) -> str | None:
    """Return a text cell, None where it is null."""
    return None if missing(cell) else str(cell)


def names_of(cell: object) -> list[str]:
    """Return a list cell as strings, empty where it is null."""
    if not isinstance(cell, list | tuple | np.ndarray):
        return []
    return [str(name) for name in cell if not missing(name)]


def _index(songs: Catalogue, titles: NDArray[Any], artists: NDArray[Any]) -> Index:
    popularity = np.nan_to_num(songs.numbers[SongRow.POPULARITY])
    order = np.argsort(-popularity, kind="stable").astype(np.int32)
    entries = []
    for i in order:
        fields = (text_of(titles[i]) or "", *names_of(artists[i]), str(songs.ids[i]))
        entries.append("".join("\n" + normal(field) for field in fields))
    ends = np.cumsum([len(entry) for entry in entries])
    return Index("".join(entries), [0, *ends[:-1].tolist()], order)


def _words(songs: Catalogue, column: str, of_listeners: dict[str, int]) -> list[str]:
    return sorted({*songs.codes[column].vocabulary.tolist(), *of_listeners})
