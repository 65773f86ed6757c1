"""Draw the listeners of a large catalogue: their feature rows and store, and what they ask."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.big_world import LANGUAGES, MOODS, REGIONS, World
from features.catalogue import Catalogue, FloatArray, IntArray
from features.columns import USER_VIEWS, Song, User, UserRow
from features.dayparts import DAYPARTS

AS_OF: Final = datetime(2026, 1, 5, 8, tzinfo=UTC)
LISTENERS: Final = 2_000
HISTORY: Final = 128


def listener_rows(drawn: World, songs: Catalogue, count: int) -> list[dict[str, Any]]:
    """Draw listeners' feature rows."""
    random = drawn.random(80)
    return [listener_row(drawn, songs, number, random) for number in range(count)]


def listener_row(
    drawn: World, songs: Catalogue, number: int, random: np.random.Generator
) -> dict[str, Any]:
    """Draw one listener: three styles, a history of their songs, tastes taken from it."""
    styles = drawn.style[drawn.by_style[random.integers(0, len(drawn), 3)]]
    history = drawn.within(random.choice(styles, 2 * HISTORY), random)
    history = history[np.sort(np.unique(history, return_index=True)[1])][:HISTORY]
    n = len(history)
    ages = np.sort(random.exponential(30, n)) * 86_400
    listen = random.random(n, np.float32) * 3
    row: dict[str, Any] = {
        User.ID: f"u{number:06d}",
        User.SIGNUP_TS: AS_OF - timedelta(days=400),
        User.BIRTH_YEAR: int(random.integers(1950, 2012)),
        User.COUNTRY: "XX",
        User.REGION: REGIONS[styles[0] % len(REGIONS)],
        User.UTC_OFFSET: int(random.integers(-8, 9)) * 60,
        User.LANGUAGES: sorted({LANGUAGES[style % len(LANGUAGES)] for style in styles[:2]}),
        User.FAVOURITE_ARTISTS: [],
        UserRow.PLAYS: n * 3,
        UserRow.SESSIONS: n // 4,
        UserRow.ACTIVE_DAYS: n // 6,
        UserRow.DISTINCT_SONGS: n,
        UserRow.REPEAT_SHARE: 0.6,
        UserRow.SKIP_SHARE: float(random.beta(2, 5)),
        UserRow.LIKE_SHARE: float(random.beta(1, 20)),
        UserRow.MEAN_SESSION_PLAYS: 12.0,
        UserRow.LAST_PLAY_TS: AS_OF - timedelta(days=1),
        UserRow.DAYPART_SHARES: random.dirichlet(np.ones(DAYPARTS)).tolist(),
        UserRow.AUDIO_MEANS: songs.audio[history].mean(axis=0).tolist(),
        UserRow.HISTORY_SONGS: songs.ids[history].tolist(),
        UserRow.HISTORY_LAST_TS: [int(AS_OF.timestamp() - age) for age in ages],
        UserRow.HISTORY_PLAYS: random.integers(1, 9, n).tolist(),
        UserRow.HISTORY_LIKE: (random.random(n) < 0.1).astype(float).tolist(),
        UserRow.HISTORY_PLAYLIST: [],
        UserRow.HISTORY_SKIP: np.where(random.random(n) < 0.2, random.random(n), 0).tolist(),
        UserRow.HISTORY_LISTEN: listen.tolist(),
    }
    for name, keys, shares, most in (
        (Song.ARTISTS, UserRow.ARTIST_KEYS, UserRow.ARTIST_SHARES, 32),
        ("era", UserRow.ERA_KEYS, UserRow.ERA_SHARES, 12),
        (Song.LANGUAGE, UserRow.LANGUAGE_KEYS, UserRow.LANGUAGE_SHARES, 12),
        (Song.REGION, UserRow.REGION_KEYS, UserRow.REGION_SHARES, 12),
        (Song.GENRES, UserRow.GENRE_KEYS, UserRow.GENRE_SHARES, 16),
    ):
        row[keys], row[shares] = top_shares(songs, name, history, listen, most)
    return row | {UserRow.MOOD_KEYS: list(MOODS), UserRow.MOOD_SHARES: [1 / 6] * 6}


def top_shares(
    songs: Catalogue, name: str, history: IntArray, weights: FloatArray, most: int
) -> tuple[list[str], list[float]]:
    """Return the heaviest words of a column over some songs, and their shares."""
    found, place = np.unique(songs.codes[name].codes[history], return_inverse=True)
    sums = np.bincount(place, weights)
    order = np.argsort(-sums)[:most]
    return songs.codes[name].vocabulary[found[order]].tolist(), (sums / sums.sum())[order].tolist()


def write_store(rows: list[dict[str, Any]], data: Path) -> None:
    """Fill a real feature store with the listeners."""
    folder = data / "features"
    folder.mkdir(parents=True)
    os.environ["SEGUE_DATA"] = str(data)
    from features import store
    from features.registered import view_schemas

    for name, schema in view_schemas().items():
        known = rows if name in USER_VIEWS else []
        stamped = [
            {key: row.get(key) for key in schema.names} | {UserRow.TS: AS_OF} for row in known
        ]
        pq.write_table(pa.Table.from_pylist(stamped, schema), folder / f"{name}.parquet")
    store.apply()
    store.materialize(AS_OF)


def request_bodies(drawn: World, count: int, seed: int, ids: Any) -> list[dict[str, Any]]:
    """Return distinct requests after ten songs, in turn by known and new listeners."""
    random = np.random.default_rng(seed)
    bodies = []
    for number in range(count):
        style = drawn.style[drawn.by_style[random.integers(0, len(drawn))]]
        played = ids[drawn.within(np.full(10, style), random)].tolist()
        user = f"u{random.integers(LISTENERS):06d}" if number % 2 == 0 else f"new-{seed}-{number}"
        events = [
            {"song_id": song, "action": "play", "played_ms": 180_000}
            if random.random() > 0.2
            else {"song_id": song, "action": "skip", "played_ms": 9_000}
            for song in played
        ]
        bodies.append({"user_id": user, "session": events, "k": 10})
    return bodies
