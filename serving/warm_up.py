"""Questions that a bundle answers before it is in use, so that no listener pays for what is first.

They show faults, read in what every answer needs, and let Numba compile each loop for each kind of
array that requests bring: a stranger, a newcomer who says who they are, and a listener with a full
row in the middle of a session, plainly and with every wish; and a session that repeats a song.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from features.catalogue import Catalogue
from features.columns import Action, Song, User, UserRow
from features.dayparts import DAYPARTS
from features.query import MODES, Query, SessionEvent, Wishes
from serving.context_songs import CODES, TAGS, words_of

HEARD: Final = 20
ACTIONS: Final = (
    Action.PLAY,
    Action.SKIP,
    Action.LIKE,
    Action.PLAY,
    Action.PLAYLIST_ADD,
    Action.PLAY,
)
# Columns of keys and of shares, and the song column whose words the keys are.
SHARES: Final = (
    (UserRow.ARTIST_KEYS, UserRow.ARTIST_SHARES, Song.ARTISTS),
    (UserRow.ERA_KEYS, UserRow.ERA_SHARES, "era"),
    (UserRow.LANGUAGE_KEYS, UserRow.LANGUAGE_SHARES, Song.LANGUAGE),
    (UserRow.REGION_KEYS, UserRow.REGION_SHARES, Song.REGION),
    (UserRow.GENRE_KEYS, UserRow.GENRE_SHARES, Song.GENRES),
)


def warm_up_queries(songs: Catalogue, popular: Sequence[int]) -> Iterator[Query]:
    """Yield one query of each kind, about some of the popular songs.

    Parameters
    ----------
    popular
        Dense indices, most popular first.
    """
    now = datetime.now(UTC)
    heard = [str(song) for song in songs.ids[list(popular[: 2 * HEARD])]]
    session = tuple(
        SessionEvent(song, action, 30_000) for song, action in zip(heard, ACTIONS, strict=False)
    )
    newcomer = _profile(songs)
    listener = newcomer | _row(songs, heard[len(heard) // 2 :], now)
    words = _context(songs)
    yield Query(ts=now)
    yield Query(ts=now, session=session[:1])
    yield Query(ts=now, user=newcomer)
    yield Query(ts=now, user=newcomer, session=session, context=words)
    yield Query(ts=now, user=listener)
    yield Query(ts=now, user=listener, session=session, exclude=frozenset(heard[-1:]))
    yield Query(ts=now, user=listener, session=session, allow_repeats=True)
    yield Query(ts=now, session=(*session[:2], *session[:1]))
    for mode in MODES:
        wishes = Wishes(
            mode=mode,
            seed_songs=tuple(heard[-2:]),
            seed_artist=next(iter(newcomer[User.FAVOURITE_ARTISTS]), None),
            less_like=tuple(heard[-4:-2]),
            heed_context=bool(words),
            spacing=True,
            refused_languages=frozenset(newcomer[User.LANGUAGES][1:]),
            allow_explicit=False,
            fill=True,
        )
        yield Query(ts=now, user=listener, session=session, context=words, wishes=wishes)


def _profile(songs: Catalogue) -> dict[str, Any]:
    """Return what somebody says at sign-up, in words of the catalogue."""
    return {
        User.BIRTH_YEAR: 1990,
        User.REGION: next(iter(songs.listener_regions), None),
        User.UTC_OFFSET: 60,
        User.LANGUAGES: list(songs.listener_languages)[:2],
        User.FAVOURITE_ARTISTS: _words(songs, Song.ARTISTS, 2),
    }


def _row(songs: Catalogue, heard: Sequence[str], now: datetime) -> dict[str, Any]:
    """Return the features of a listener who heard some songs."""
    row: dict[str, Any] = {
        UserRow.LAST_PLAY_TS: now - timedelta(days=1),
        UserRow.DAYPART_SHARES: [1 / DAYPARTS] * DAYPARTS,
        UserRow.AUDIO_MEANS: songs.audio_mean.tolist(),
        UserRow.HISTORY_SONGS: list(heard),
        UserRow.HISTORY_LAST_TS: [int(now.timestamp()) - 60 * n for n in range(len(heard))],
    }
    counts = (UserRow.PLAYS, UserRow.SESSIONS, UserRow.ACTIVE_DAYS, UserRow.DISTINCT_SONGS)
    row |= dict.fromkeys(counts, len(heard))
    shares = (UserRow.REPEAT_SHARE, UserRow.SKIP_SHARE, UserRow.LIKE_SHARE)
    row |= dict.fromkeys((*shares, UserRow.MEAN_SESSION_PLAYS), 0.5)
    values = (name for name in UserRow.HISTORY if name not in row)
    row |= {name: [1.0] * len(heard) for name in values}
    for keys, of_keys, column in SHARES:
        words = _words(songs, column, 4)
        row |= {keys: words, of_keys: [1 / len(words)] * len(words) if words else []}
    return row


def _words(songs: Catalogue, column: str, count: int) -> list[str]:
    vocabulary = songs.codes[column].vocabulary
    return [str(word) for word in vocabulary[: min(count, len(vocabulary))]]


def _context(songs: Catalogue) -> Mapping[str, Any]:
    """Return a word of each kind of context that the catalogue knows."""
    firsts = {kind: next(iter(words_of(songs, kind)), None) for kind in (*TAGS, *CODES)}
    return {kind: word for kind, word in firsts.items() if word is not None}
