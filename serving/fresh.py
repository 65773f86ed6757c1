"""New songs: too young for most of what is learnt from listening, so they are proposed apart.

A song of last week has few plays, few neighbours and small factors, however well it will be liked.
What is known of it from the first hour on is who made it, in which genre and which language.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from scipy.sparse import csr_matrix

from features.catalogue import Catalogue, FloatArray, IntArray
from features.columns import Song, UserRow
from features.state import State
from serving.compiled import rows_weighted
from serving.generators import artist_weights
from serving.scores import Scores, add_up

# Songs kept of each artist, and of each genre in each language.
OF_FRESH: Final = 64
# The genres and languages heard most, as many as are asked for new songs; and what a genre in a
# language weighs that is all a listener hears, next to an artist who is.
GENRES: Final = 5
LANGUAGES: Final = 3
GENRE_WEIGHT: Final = 0.3


@dataclass(frozen=True)
class FreshSongs:
    """New songs by the listener's artists, and of the genres heard most, by language.

    `listed` (rows, songs) holds new songs and their plays a day: a row for each artist, then those
    of `group_rows`.
    """

    listed: csr_matrix
    songs: Catalogue

    def scores(self, state: State) -> Scores:
        """Return plays a day times what the artist, and the genre and language, weigh."""
        artists, weights = artist_weights(state, self.songs)
        groups, shares = self._groups(state)
        listed = self.listed
        found = rows_weighted(
            listed.indptr,
            listed.indices,
            listed.data,
            np.concatenate([artists, groups]),
            np.concatenate([weights, shares]),
        )
        return add_up(*found)

    def _groups(self, state: State) -> tuple[IntArray, FloatArray]:
        """Return the rows of the listener's genres and languages, and what each weighs."""
        user, codes = state.query.user, self.songs.codes
        genres, of_genre = _most(
            codes[Song.GENRES], user, UserRow.GENRE_KEYS, UserRow.GENRE_SHARES, GENRES
        )
        languages, of_language = _most(
            codes[Song.LANGUAGE], user, UserRow.LANGUAGE_KEYS, UserRow.LANGUAGE_SHARES, LANGUAGES
        )
        # A song whose language is not known may be of any.
        languages, of_language = np.append(languages, -1), np.append(of_language, 1)
        rows = group_rows(self.songs, genres[:, None], languages[None, :])
        shares = GENRE_WEIGHT * of_genre[:, None] * of_language[None, :]
        return rows.ravel(), shares.ravel().astype(np.float32)


def group_rows(songs: Catalogue, genres: IntArray, languages: IntArray) -> IntArray:
    """Return the rows of `FreshSongs.listed` of genres in languages, codes that broadcast.

    -1 is a language that is not known, and a row for a genre that is not.
    """
    artists, known = (len(songs.codes[n].vocabulary) for n in (Song.ARTISTS, Song.LANGUAGE))
    rows = artists + genres * (known + 1) + np.where(languages >= 0, languages, known)
    return np.where(genres >= 0, rows, -1).astype(np.int32)


def _most(codes: Any, user: Any, keys: str, shares: str, most: int) -> tuple[IntArray, FloatArray]:
    """Return the codes of the largest shares of what a listener hears, and the shares."""
    words = user.get(keys)
    if words is None or not len(words):
        return np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32)
    found = codes.vocabulary.find(list(words[:most]))
    kept = found >= 0
    return found[kept], np.asarray(user[shares][:most], dtype=np.float32)[kept]
