"""Radio: an answer that goes on from songs or an artist as if the session had begun with them."""

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from features.catalogue import IntArray
from features.columns import Song
from features.query import Wishes
from features.state import State
from serving.generators import SameArtist
from serving.retrieval import Retrieval

ARTIST_SONGS: Final = 5


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
    generator = retrieval.generators.get("artists")
    if artist < 0 or not isinstance(generator, SameArtist):
        return np.empty(0, dtype=np.int32)
    # Each artist's songs are listed from the most popular on.
    start, end = generator.listed.indptr[artist : artist + 2]
    return generator.listed.indices[start : min(end, start + ARTIST_SONGS)].astype(np.int32)


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
