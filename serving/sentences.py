"""What can truly be said of a song and a listener for one kind of evidence; None where nothing can.

Every function takes the retrieval (for the catalogue), the state and a dense song index.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import numpy as np

from features.catalogue import IntArray
from features.columns import Song, SongRow, User, UserRow
from features.compiled_groups import means_of_known
from features.pair_groups import TEEN_AGE
from features.pairs import Pairs, audio_distance, missing
from features.state import State
from serving.context_songs import CODES, TAGS
from serving.retrieval import Retrieval

TEEN_YEARS: Final = 3
# Of the upper fifth by popularity, with so many listeners: of a long tail, most of that fifth have
# hardly any.
WELL_KNOWN: Final = 0.8
LISTENERS: Final = 10
# A song sounds like what it lies nearer to than four fifths of so many others.
NEAR: Final = 0.2
SAMPLE: Final = 512
USUAL_SHARE: Final = 0.1
NEW_DAYS: Final = 30
_LANGUAGE: Final = (UserRow.LANGUAGE_KEYS, UserRow.LANGUAGE_SHARES)
_ERA: Final = (UserRow.ERA_KEYS, UserRow.ERA_SHARES)
_GENRE: Final = (UserRow.GENRE_KEYS, UserRow.GENRE_SHARES)
SESSION: Final = "session"
PLAIN: Final = ("commute", "party", "sleep", "workout")


def _own(retrieval: Retrieval, state: State, song: int) -> str | None:
    place = np.flatnonzero(state.history == song)
    if len(place) and state.history_values["like"][place[0]] > 0:
        return "You liked it"
    heard = song in state.played or song in _heard(state)
    return "You have played it before" if heard else None


def _heard(state: State) -> IntArray:
    """Return the history's songs but for those only added, liked or skipped."""
    heard: IntArray = state.history[state.history_values["listen"] > 0]
    return heard


def _artist(retrieval: Retrieval, state: State, song: int) -> str | None:
    artists = retrieval.songs.codes[Song.ARTISTS]
    code = artists.codes[song]
    if code < 0:
        return None
    name = str(artists.vocabulary[code])
    if code in artists.codes[state.enjoyed]:
        return f"More by {name}"
    favourites, usual = (
        state.query.user.get(key) for key in (User.FAVOURITE_ARTISTS, UserRow.ARTIST_KEYS)
    )
    if favourites is not None and name in list(favourites):
        return f"By {name}, whom you named"
    if usual is not None and name in list(usual) or code in artists.codes[_heard(state)]:
        return f"By {name}, whom you play"
    return None


def _album(retrieval: Retrieval, state: State, song: int) -> str | None:
    albums = retrieval.songs.codes[Song.ALBUM].codes
    if albums[song] < 0 or albums[song] not in albums[state.enjoyed]:
        return None
    return f"From an album of this {_going_on(state, albums[song] in albums[state.played])}"


def _language(retrieval: Retrieval, state: State, song: int) -> str | None:
    spoken = _listed(retrieval, state, song, Song.LANGUAGE, User.LANGUAGES)
    usual = _usual(retrieval, state, song, Song.LANGUAGE, *_LANGUAGE)
    return "In a language that you listen to" if spoken or usual else None


def _region(retrieval: Retrieval, state: State, song: int) -> str | None:
    here = _heard_here(retrieval, state, song)
    return f"Heard in {state.query.user[User.REGION]}" if here else None


def _era(retrieval: Retrieval, state: State, song: int) -> str | None:
    era = _word(retrieval, "era", song)
    if era is not None and era == state.query.context.get("era"):
        return for_context(retrieval, state, song, "era")
    usual = _usual(retrieval, state, song, "era", *_ERA)
    return f"From the {era}s, which you often play" if usual else None


def _genre(retrieval: Retrieval, state: State, song: int) -> str | None:
    codes = retrieval.songs.codes[Song.GENRES].codes
    genre = _word(retrieval, Song.GENRES, song)
    if genre is not None and codes[song] in codes[state.enjoyed]:
        return f"More {genre}, as in this {_going_on(state, codes[song] in codes[state.played])}"
    usual = _usual(retrieval, state, song, Song.GENRES, *_GENRE)
    return f"You often play {genre}" if usual else None


def _sound(retrieval: Retrieval, state: State, song: int) -> str | None:
    audio = retrieval.songs.audio
    if len(state.course):
        centre = means_of_known(np.ascontiguousarray(audio[state.course].T))
        near = _sounds_like(retrieval, state, song, centre, True)
        return f"Sounds like this {_going_on(state, len(state.played) > 0)}" if near else None
    usual = state.query.user.get(UserRow.AUDIO_MEANS)
    return (
        "Sounds like what you play" if _sounds_like(retrieval, state, song, usual, False) else None
    )


def _sounds_like(
    retrieval: Retrieval, state: State, song: int, centre: Any, standardised: bool
) -> bool:
    """Tell whether a song is nearer in sound than nearly all of a sample of the catalogue."""
    sample = np.arange(0, len(retrieval.songs), max(len(retrieval.songs) // SAMPLE, 1))
    pairs = Pairs(state, retrieval.songs, np.append(song, sample).astype(np.int32))
    away = audio_distance(pairs, centre, standardised)
    if away is None or not np.isfinite(away[0]):
        return False
    others = away[1:][np.isfinite(away[1:])]
    return bool((others <= away[0]).mean() <= NEAR)


def _teens(retrieval: Retrieval, state: State, song: int) -> str | None:
    born = state.query.user.get(User.BIRTH_YEAR)
    year = retrieval.songs.numbers[Song.RELEASE_YEAR][song]
    age = np.nan if missing(born) else float(year) - float(born or 0)
    if not abs(age - TEEN_AGE) <= TEEN_YEARS:
        return None
    return f"{'Big' if well_known(retrieval, song) else 'From'} when you were {int(age)}"


def for_context(retrieval: Retrieval, state: State, song: int, kind: str) -> str | None:
    """Say that a song is for the named occasion or mood, of the named era, language or region."""
    word = str(state.query.context.get(kind))
    if kind in CODES:
        named = word == _word(retrieval, CODES[kind], song)
        return (
            {
                "era": f"From the {word}s",
                "language": "In the language that you asked for",
                "region": f"From {word}",
            }[kind]
            if named
            else None
        )
    tags = retrieval.songs.tags[TAGS[kind]]
    column = tags.code_of.get(word)
    if column is None or not tags.has[song, column]:
        return None
    name = word.replace("_", " ")
    if kind == "mood":
        return f"For a {name} mood"
    # Feasts are names; the others are not.
    return f"For {name if word in PLAIN else name.title()}"


def _sessions(retrieval: Retrieval, state: State, song: int) -> str | None:
    if not len(state.course):
        return "Played in sessions with songs of yours" if len(state.history) else None
    going_on = _going_on(state, len(state.played) > 0)
    return f"Played in sessions like this {'one' if going_on == SESSION else going_on}"


def _going_on(state: State, heard: bool) -> str:
    """Name what goes on: of a radio's seeds, nothing was heard in this session yet."""
    return "radio" if state.radio and not heard else SESSION


def _trend(retrieval: Retrieval, state: State, song: int) -> str | None:
    numbers = retrieval.songs.numbers
    if not well_known(retrieval, song):
        return "More played than before" if numbers[SongRow.TREND][song] > 0 else None
    if numbers[SongRow.TREND][song] < 0:
        # Popular over the year, but less than that of late.
        return None
    here = _heard_here(retrieval, state, song)
    return f"Much played now in {state.query.user[User.REGION]}" if here else "Much played now"


def _popular(retrieval: Retrieval, state: State, song: int) -> str | None:
    return "Popular with everyone" if well_known(retrieval, song) else None


def well_known(retrieval: Retrieval, song: int) -> bool:
    """Tell whether a song is among the most popular, and not with a handful of listeners only."""
    numbers = retrieval.songs.numbers
    percentile = numbers[SongRow.POPULARITY_PERCENTILE][song]
    return bool(percentile >= WELL_KNOWN and numbers[SongRow.LISTENERS][song] >= LISTENERS)


def _new(retrieval: Retrieval, state: State, song: int) -> str | None:
    numbers = retrieval.songs.numbers
    # Without a date of release it is new from when it was first heard, however old.
    if numbers[Song.RELEASE_YEAR][song] < state.query.ts.year - 1:
        return None
    return "New" if numbers[SongRow.AGE_DAYS][song] < NEW_DAYS else None


def _heard_here(retrieval: Retrieval, state: State, song: int) -> bool:
    """Tell whether the song is known to be heard in the listener's region."""
    column = retrieval.songs.listener_regions.get(str(state.query.user.get(User.REGION)))
    return column is not None and bool(retrieval.songs.region_popularity[song, column] > 0)


def _word(retrieval: Retrieval, column: str, song: int) -> str | None:
    codes = retrieval.songs.codes[column]
    code = codes.codes[song]
    return str(codes.vocabulary[code]) if code >= 0 else None


def _listed(retrieval: Retrieval, state: State, song: int, column: str, key: str) -> bool:
    """Tell whether a list of the listener's row holds the song's word."""
    words = state.query.user.get(key)
    return words is not None and _word(retrieval, column, song) in list(words)


def _usual(
    retrieval: Retrieval, state: State, song: int, column: str, keys: str, shares: str
) -> bool:
    """Tell whether the song's word has at least a `USUAL_SHARE` of what the listener hears."""
    words, parts = state.query.user.get(keys), state.query.user.get(shares)
    if words is None or parts is None:
        return False
    of = dict(zip(words, parts, strict=True))
    return bool(of.get(_word(retrieval, column, song), 0) >= USUAL_SHARE)


SENTENCES: Final[Mapping[str, Callable[[Retrieval, State, int], str | None]]] = {
    "own": _own,
    "artist": _artist,
    "album": _album,
    "language": _language,
    "region": _region,
    "era": _era,
    "genre": _genre,
    "sound": _sound,
    "teens": _teens,
    "occasion": partial(for_context, kind="occasion"),
    "mood": partial(for_context, kind="mood"),
    "trend": _trend,
    "popular": _popular,
    "new": _new,
    "taste": lambda *_: "Loved by listeners with a taste like yours",
    "sessions": _sessions,
}
