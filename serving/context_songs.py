"""Songs for the context that a request names: an occasion, a mood, an era, a language, a region."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from features.catalogue import Catalogue, FloatArray, IntArray
from features.columns import Song, SongRow, User
from features.state import State
from serving.scores import NO_SCORES, Scores, SparseScores, best

# Kind of context -> the song's tags, or the song's code.
TAGS: Final = {"occasion": Song.OCCASIONS, "mood": Song.MOODS}
CODES: Final = {"era": "era", "language": Song.LANGUAGE, "region": Song.REGION}
# Songs listed of a word, and of those the least of each language: who speaks no other finds some.
KEPT: Final = 500
KEPT_A_LANGUAGE: Final = 100
# Where a word that the catalogue does not know is answered.
LISTED: Final = "GET /status lists the words that songs and listeners are of"


@dataclass(frozen=True)
class ContextSongs:
    """Proposes popular songs that match the named context; none where nothing is named.

    `lists` holds the most popular matching songs by (kind, word), `KEPT` of all and
    `KEPT_A_LANGUAGE` of each language, ascending by index. A song that matches more of what is
    named goes first, then one in a language that the listener speaks, then the more popular one.
    """

    lists: Mapping[tuple[str, str], IntArray]
    songs: Catalogue

    @classmethod
    def of(cls, songs: Catalogue) -> "ContextSongs":
        """List the songs of every word that the catalogue knows."""
        popularity, languages = _popularity(songs), _languages(songs)
        lists = {}
        for kind, name in TAGS.items():
            tags = songs.tags[name]
            for word, column in tags.code_of.items():
                tagged = np.flatnonzero(tags.has[:, column])
                lists[kind, word] = _listed(tagged, popularity, languages)
        for kind, name in CODES.items():
            lists |= {(kind, word): group for word, group in listed_by_word(songs, name).items()}
        return cls(lists, songs)

    def scores(self, state: State) -> Scores:
        """Return 2 for each match, 1 for a language that the listener speaks, plus popularity."""
        asked = named(state.query.context)
        found = [self.lists[kind, word] for kind, word in asked if (kind, word) in self.lists]
        if not found:
            return NO_SCORES
        songs = np.unique(np.concatenate(found)).astype(np.int32)
        matches = context_match(self.songs, state.query.context, songs) * len(asked)
        popularity = np.nan_to_num(self.songs.numbers[SongRow.POPULARITY_PERCENTILE][songs])
        values = 2 * matches + _spoken(self.songs, state, songs) + popularity
        return SparseScores(songs, values.astype(np.float32))


def named(context: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the kinds of context that songs can match, each with its word."""
    return [(kind, str(context[kind])) for kind in (*TAGS, *CODES) if context.get(kind)]


def words_of(songs: Catalogue, kind: str) -> Mapping[str, int]:
    """Return the words of a kind of context that some song is of."""
    return (songs.tags[TAGS[kind]] if kind in TAGS else songs.codes[CODES[kind]]).code_of


def context_match(songs: Catalogue, context: Mapping[str, Any], candidates: IntArray) -> FloatArray:
    """Return the share of the named context that each candidate matches; 0 where none is named.

    A song without a tag, or a word that the catalogue does not know, is no match.
    """
    asked = named(context)
    total = np.zeros(len(candidates), dtype=np.float32)
    for kind, word in asked:
        if kind in TAGS:
            tags = songs.tags[TAGS[kind]]
            column = tags.code_of.get(word)
            total += 0 if column is None else tags.has[candidates, column]
        else:
            codes = songs.codes[CODES[kind]]
            total += codes.codes[candidates] == codes.code(word)
    return total / np.float32(max(len(asked), 1))


def listed_by_word(songs: Catalogue, column: str) -> dict[str, IntArray]:
    """Return the most popular songs of each word of a column, as `ContextSongs.lists` says."""
    popularity, languages = _popularity(songs), _languages(songs)
    codes = songs.codes[column]
    order = np.argsort(codes.codes, kind="stable")
    bounds = np.searchsorted(codes.codes[order], np.arange(len(codes.vocabulary) + 1))
    return {
        word: _listed(order[bounds[code] : bounds[code + 1]], popularity, languages)
        for word, code in codes.code_of.items()
    }


def _popularity(songs: Catalogue) -> FloatArray:
    return np.nan_to_num(songs.numbers[SongRow.POPULARITY_PERCENTILE])


def _languages(songs: Catalogue) -> NDArray[np.int16]:
    # Numpy sorts sixteen bits by radix, millions of songs in a moment.
    return songs.codes[Song.LANGUAGE].codes.astype(np.int16)


def _spoken(songs: Catalogue, state: State, candidates: IntArray) -> FloatArray:
    languages = state.query.user.get(User.LANGUAGES)
    code_of = songs.codes[Song.LANGUAGE].code_of
    spoken = [code_of[x] for x in (languages if languages is not None else ()) if x in code_of]
    return np.isin(songs.codes[Song.LANGUAGE].codes[candidates], spoken).astype(np.float32)


def _listed(
    songs: NDArray[np.intp], popularity: FloatArray, languages: NDArray[np.int16]
) -> IntArray:
    """Return the most popular songs, overall and of each language, ascending."""
    order = np.argsort(languages[songs], kind="stable")
    last = np.flatnonzero(np.diff(languages[songs[order]]))
    kept = [songs[best(popularity[songs], KEPT)]]
    for group in np.split(songs[order], last + 1):
        kept.append(group[best(popularity[group], KEPT_A_LANGUAGE)])
    return np.unique(np.concatenate(kept)).astype(np.int32)
