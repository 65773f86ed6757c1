"""Small made-up lakes for the feature tests, awkward on purpose."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.params import load_params

START = datetime(2024, 1, 1, tzinfo=UTC)
TS = pa.timestamp("us", "UTC")
STRINGS = pa.list_(pa.string())
EVENTS = pa.schema(
    {
        "event_id": pa.string(),
        "ts": TS,
        "user_id": pa.string(),
        "song_id": pa.string(),
        "session_id": pa.string(),
        "action": pa.string(),
        "played_ms": pa.int64(),
        "received_ts": TS,
    }
)
USERS = pa.schema(
    {
        "user_id": pa.string(),
        "signup_ts": TS,
        "birth_year": pa.int64(),
        "country": pa.string(),
        "region": pa.string(),
        "utc_offset_minutes": pa.int64(),
        "languages": STRINGS,
        "favourite_artists": STRINGS,
    }
)
SONGS = pa.schema(
    {
        **dict.fromkeys(["song_id", "title"], pa.string()),
        "artists": STRINGS,
        **dict.fromkeys(["band", "composer", "album"], pa.string()),
        "release_year": pa.int64(),
        "released_ts": TS,
        **dict.fromkeys(["language", "region"], pa.string()),
        "genres": STRINGS,
        "duration_ms": pa.int64(),
        **dict.fromkeys(
            ["tempo", "energy", "valence", "danceability", "acousticness"], pa.float64()
        ),
        "moods": STRINGS,
        "occasions": STRINGS,
    }
)
ACTIONS = ["play", "skip", "like", "unlike", "dislike", "playlist_add", "playlist_remove"]


def small_params():
    """Windows and half-lives short enough that events leave them, and a history that overflows."""
    params = load_params()
    days = {"like": (40, 20), "playlist": (30, 10), "skip": (6, 2), "listen": (15, 5)}
    signals = {
        name: params.signals[name].model_copy(
            update={"window_days": window, "half_life_days": half_life}
        )
        for name, (window, half_life) in days.items()
    }
    features = params.features.model_copy(
        update={
            "window_days": 20,
            "half_life_days": 7,
            "trend_days": 5,
            "history_songs": 12,
            "snapshots_per_phase": 1,
        }
    )
    return params.model_copy(update={"signals": signals, "features": features})


def random_world(seed=0, *, users=24, songs=40, events=2500, days=50):
    """Events, users and songs as lists of dicts: nulls, ties, newcomers, uncatalogued songs."""
    rng = np.random.default_rng(seed)
    people = [_user(rng, number) for number in range(users)]
    catalogue = [_song(rng, number) for number in range(songs)]
    # The last two ids of each are in no catalogue.
    happened = [_event(rng, number, users + 2, songs + 2, days) for number in range(events)]
    return happened, people, catalogue


def _event(rng, number, users, songs, days):
    # Whole minutes make ties; the odd microsecond makes them matter.
    ts = START + timedelta(minutes=int(rng.integers(days * 1440)), microseconds=number % 3)
    shares = [0.6, 0.2, 0.07, 0.04, 0.02, 0.05, 0.02]
    return {
        "event_id": f"e{number}",
        "ts": ts,
        "user_id": f"u{int(users * rng.random() ** 2)}",
        "song_id": f"s{int(songs * rng.random() ** 1.5)}",
        "session_id": _maybe(rng, 0.9, f"x{ts.toordinal()}-{number % 2}"),
        "action": str(rng.choice(ACTIONS, p=shares)),
        "played_ms": _maybe(rng, 0.9, int(rng.integers(260_000))),
        "received_ts": None,
    }


def _user(rng, number):
    languages = [str(word) for word in rng.permutation(["hi", "ta", "en"])[: rng.integers(1, 3)]]
    return {
        "user_id": f"u{number}",
        "signup_ts": _maybe(rng, 0.8, START + timedelta(days=float(rng.integers(60)) + 0.1234567)),
        "birth_year": _maybe(rng, 0.8, 1950 + int(rng.integers(60))),
        "country": _maybe(rng, 0.8, "IN"),
        "region": _maybe(rng, 0.8, f"r{rng.integers(4)}"),
        "utc_offset_minutes": _maybe(rng, 0.8, int(rng.choice([-480, 0, 330, 720]))),
        "languages": _maybe(rng, 0.8, languages),
        "favourite_artists": _maybe(rng, 0.5, ["a1"]),
    }


def _song(rng, number):
    artists = [f"a{rng.integers(40)}" for _ in range(rng.integers(1, 3))]
    audio = {name: _maybe(rng, 0.9, float(rng.random())) for name in ("energy", "valence")}
    return {
        **dict.fromkeys(SONGS.names),
        "song_id": f"s{number}",
        "title": f"Song {number}",
        "artists": _maybe(rng, 0.9, artists),
        "release_year": _maybe(rng, 0.8, 1960 + int(rng.integers(65))),
        "released_ts": _maybe(rng, 0.5, START + timedelta(days=float(rng.integers(-90, 50)))),
        "language": _maybe(rng, 0.8, str(rng.choice(["hi", "ta", "en"]))),
        "region": _maybe(rng, 0.8, f"r{rng.integers(4)}"),
        "genres": _maybe(rng, 0.8, [f"g{rng.integers(5)}", f"g{rng.integers(5, 9)}"]),
        "duration_ms": _maybe(rng, 0.8, 100_000 + int(rng.integers(150_000))),
        **audio,
        "moods": _maybe(rng, 0.3, ["calm"]),
    }


def _maybe(rng, share, value):
    return value if rng.random() < share else None


def write_lake(folder, events, users, songs):
    """Write the three tables as the lake lays them out."""
    by_day = {}
    for event in events:
        by_day.setdefault(event["ts"].date(), []).append(event)
    for day, listed in by_day.items():
        path = folder / "events" / f"date={day}"
        path.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(listed, EVENTS), path / "part.parquet")
    pq.write_table(pa.Table.from_pylist(users, USERS), folder / "users.parquet")
    pq.write_table(pa.Table.from_pylist(songs, SONGS), folder / "songs.parquet")


def tables(events, users, songs):
    """Return the three as Arrow tables."""
    return (
        pa.Table.from_pylist(events, EVENTS),
        pa.Table.from_pylist(users, USERS),
        pa.Table.from_pylist(songs, SONGS),
    )
