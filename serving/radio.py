"""Radio: an answer that goes on from songs or an artist as if the session had begun with them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Catalogue, IntArray
from features.columns import Song, SongRow
from features.query import Wishes
from features.state import State
from serving.context_songs import listed_by_word
from serving.generators import SameArtist
from serving.retrieval import Retrieval
from serving.scores import best

ARTIST_SONGS: Final = 5


@dataclass(frozen=True)
class SameGenre:
    """Songs for a radio from what nobody has played yet, of which no generator knows more."""

    songs: Catalogue
    lists: Mapping[str, IntArray]

    @classmethod
    def of(cls, songs: Catalogue) -> "SameGenre":
        """List the popular songs of every genre."""
        return cls(songs, listed_by_word(songs, Song.GENRES))

    def beside(self, seeds: IntArray) -> IntArray:
        """Return songs of the genres of those seeds that nobody played, the most popular first."""
        popularity = self.songs.numbers[SongRow.POPULARITY]
        unheard = seeds[np.nan_to_num(popularity[seeds]) == 0]
        genres = self.songs.codes[Song.GENRES]
        codes = np.unique(genres.codes[unheard])
        found = [self.lists[str(genres.vocabulary[code])] for code in codes[codes >= 0]]
        songs = np.unique(np.concatenate(found)) if found else seeds[:0]
        return songs[best(np.nan_to_num(popularity[songs]), len(songs))]


def radio_seeds(retrieval: Retrieval, wishes: Wishes) -> IntArray:
    """Return the songs to start from: the named ones, and the named artist's most popular.

    Named songs are in such an order that the first few of them are spread over the whole list.
    """
    if not wishes.seed_songs and not wishes.seed_artist:
        return np.empty(0, dtype=np.int32)
    named = retrieval.songs.indices(wishes.seed_songs)[spread_order(len(wishes.seed_songs))]
    artist = retrieval.songs.codes[Song.ARTISTS].code_of.get(wishes.seed_artist or "", -1)
    songs = np.concatenate([named[named >= 0], _songs_of(retrieval, artist)])
    _, first = np.unique(songs, return_index=True)
    return songs[np.sort(first)].astype(np.int32)


def spread_order(count: int) -> NDArray[np.intp]:
    """Return the places of a list so that its first few, however many, lie evenly over it.

    By their bits read backwards (van der Corput): of eight 0, 4, 2, 6, 1, 5, 3, 7.
    """
    places, turned = np.arange(count), np.zeros(count, dtype=np.int64)
    for bit in range(count.bit_length()):
        turned = 2 * turned + (places >> bit & 1)
    return np.argsort(turned, kind="stable")


def _songs_of(retrieval: Retrieval, artist: int) -> IntArray:
    if artist < 0:
        return np.empty(0, dtype=np.int32)
    generator = retrieval.generators.get("artists")
    if not isinstance(generator, SameArtist):
        # It is switched off; a radio is to play all the same.
        return _most_popular_of(retrieval.songs, artist)
    # Each artist's songs are listed from the most popular on.
    start, end = generator.listed.indptr[artist : artist + 2]
    return generator.listed.indices[start : min(end, start + ARTIST_SONGS)].astype(np.int32)


def _most_popular_of(songs: Catalogue, artist: int) -> IntArray:
    theirs = np.flatnonzero(songs.codes[Song.ARTISTS].codes == artist)
    popularity = np.nan_to_num(songs.numbers[SongRow.POPULARITY_PERCENTILE][theirs])
    return theirs[best(popularity, ARTIST_SONGS)].astype(np.int32)


def tuned(state: State, seeds: IntArray) -> State:
    """Return the state with the seeds before its session: continued from, but not played.

    Generators continue from them and the ranker sees a session that began with them; they are no
    signals of the listener, they bar nothing and repeat nothing.
    """
    if len(seeds) == 0:
        return state
    unheard = np.zeros(len(seeds), dtype=np.bool_)
    return replace(
        state,
        session=np.concatenate([seeds, state.session]),
        skipped=np.concatenate([unheard, state.skipped]),
        radio=len(seeds),
    )
