"""A small but complete bundle: 200 songs in ten clusters that sessions stay within."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import lightgbm
import numpy as np
import pandas as pd
import psycopg
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from scipy.sparse import csr_matrix

from features import store
from features.arrays import save_rows
from features.catalogue import catalogue, save_catalogue
from features.columns import FEATURE_SERVICE, Action, Event, Song, SongRow, User, UserRow
from features.params import SIGNALS, load_params
from features.query import Query, SessionEvent
from features.snapshots import write_snapshots
from features.state import resolve
from serving.bundle import load_retrieval
from serving.files import LINKS, factors_file
from serving.fold_in import FactorModel
from serving.layout import (
    save_artists,
    save_factors,
    save_fresh,
    save_sessions,
    save_trending,
)
from serving.lookup import save_search
from serving.manifest import FORMAT, MANIFEST, checksums
from serving.recommender import Recommender

SONGS, CLUSTERS, FACTORS = 200, 10, 8
AS_OF = datetime(2024, 3, 1, tzinfo=UTC)
# Worked into the catalogue so that tests find them by name.
EVIL_TITLE = '<img src=x onerror="window.pwned=1">Zum Schluß'
UNTITLED = "song-007"


def song_id(i: int) -> str:
    return f"song-{i:03d}"


def cluster(i: int) -> int:
    return i % CLUSTERS


def songs_frame() -> pd.DataFrame:
    """Return one row a song; song i is of cluster and artist i % 10, the first are most played."""
    n = np.arange(SONGS)
    plays = (1000 / (n + 1)).astype(np.int64) + 1
    titles = [f"Tune {i} of the {('River', 'Hill', 'Storm', 'Lamp')[i % 4]}" for i in n]
    titles[3], titles[7] = EVIL_TITLE, None
    languages, regions = ("en", "hi", "de"), ("Europe", "South Asia")
    columns = {
        Song.ID: [song_id(i) for i in n],
        Song.TITLE: titles,
        Song.ARTISTS: [[f"Artist {cluster(i)}"] if i % 50 != 49 else None for i in n],
        Song.BAND: None,
        Song.COMPOSER: None,
        Song.ALBUM: [f"Album {i % 40}" for i in n],
        Song.RELEASE_YEAR: 1970 + n % 50,
        Song.RELEASED_TS: pd.Timestamp("2000-01-01", tz="UTC"),
        Song.LANGUAGE: [languages[i % 3] for i in n],
        Song.REGION: [regions[i % 2] for i in n],
        Song.GENRES: [["pop" if i % 2 else "rock"] for i in n],
        Song.DURATION_MS: 180_000 + 1000 * n,
        Song.TEMPO: 100.0 + n % 40,
        Song.ENERGY: (n % 7) / 7,
        Song.VALENCE: (n % 5) / 5,
        Song.DANCEABILITY: (n % 3) / 3,
        Song.ACOUSTICNESS: 0.5,
        Song.MOODS: [["calm"] if i % 6 == 0 else ["happy"] if i % 6 == 1 else [] for i in n],
        Song.OCCASIONS: [["party"] if i % 8 == 0 else ["diwali"] if i % 9 == 0 else [] for i in n],
        SongRow.PLAYS: plays,
        SongRow.LISTENERS: plays // 2 + 1,
        SongRow.POPULARITY: plays.astype(np.float64),
        SongRow.POPULARITY_PERCENTILE: 1 - n / SONGS,
        SongRow.TREND: 0.0,
        SongRow.SKIP_SHARE: 0.3,
        SongRow.LIKE_SHARE: 0.02,
        SongRow.AGE_DAYS: 100.0 + n,
        SongRow.FIRST_SEEN_TS: pd.Timestamp("2020-01-01", tz="UTC"),
        SongRow.REGION_KEYS: [[regions[i % 2]] for i in n],
        SongRow.REGION_POPULARITY: [[float(plays[i])] for i in n],
        SongRow.LANGUAGE_KEYS: [[languages[i % 3]] for i in n],
        SongRow.LANGUAGE_POPULARITY: [[float(plays[i])] for i in n],
    }
    return pd.DataFrame(columns)


def with_numbers(recommender: Recommender, song: int, changed: dict[str, float]) -> Recommender:
    """Return the recommender over a catalogue that says other numbers of one song."""
    songs = recommender.retrieval.songs
    arrays = {**songs.arrays, "numbers": np.array(songs.numbers_of)}
    for name, value in changed.items():
        arrays["numbers"][song, songs.number_places[name]] = value
    retrieval = replace(recommender.retrieval, songs=replace(songs, arrays=arrays))
    return replace(recommender, retrieval=retrieval)


def write_generators(folder: Path, random: np.random.Generator) -> None:
    """Write catalogue and generators: songs of one cluster lie and come together."""
    songs = catalogue(songs_frame())
    save_catalogue(songs, folder)
    save_search(songs, folder)
    centres = random.normal(size=(CLUSTERS, FACTORS))
    known = np.ones(SONGS, dtype=np.bool_)
    known[-1] = False
    for signal in SIGNALS:
        near = centres[np.arange(SONGS) % CLUSTERS] + 0.1 * random.normal(size=(SONGS, FACTORS))
        factors = (near * known[:, None]).astype(np.float32)
        save_factors(folder / factors_file(signal), FactorModel(factors, known, 0.05, 10.0, 1.0))
    same = np.equal.outer(np.arange(SONGS) % CLUSTERS, np.arange(SONGS) % CLUSTERS)
    np.fill_diagonal(same, False)
    links = csr_matrix(same * random.uniform(0.1, 1.0, size=same.shape).astype(np.float32))
    for name in LINKS:
        save_rows(folder / f"{name}.npz", links)
    vectors = centres[np.arange(SONGS) % CLUSTERS].astype(np.float32) * known[:, None]
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    np.savez(folder / "vectors.npz", vectors=vectors / lengths, known=known)
    sessions = np.concatenate(
        [random.choice(np.arange(c, SONGS, CLUSTERS), 5, False) for c in np.arange(100) % CLUSTERS]
    )
    in_order = csr_matrix(
        (np.ones(500, np.float32), sessions.astype(np.int32), np.arange(0, 501, 5)),
        shape=(100, SONGS),
    )
    recency = np.linspace(0.5, 1, 100).astype(np.float32)
    save_sessions(folder / "sessions.npz", in_order, 500, recency, np.ones(SONGS, np.float32))
    save_artists(folder, songs)
    save_fresh(folder, songs, load_params().generators.fresh.days)
    save_trending(folder, (1 / np.arange(1, SONGS + 1)).astype(np.float32), songs)


def training_rows(
    folder: Path, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Return features, labels (1 for songs of the session's cluster) and group sizes."""
    retrieval = load_retrieval(folder)
    features, labels, groups = [], [], []
    hidden = [n.startswith(("artist", "vectors", "near")) for n in retrieval.feature_names]
    for turn in range(100):
        first = int(random.integers(CLUSTERS))
        played = random.choice(np.arange(first, SONGS, CLUSTERS), 3, replace=False)
        # So that the ranker learns from likes, additions and the usual artists too.
        action = (Action.PLAY, Action.PLAY, Action.LIKE, Action.PLAYLIST_ADD, None)[turn % 5]
        session = tuple(SessionEvent(song_id(i), action) for i in played) if action else ()
        usual = {UserRow.ARTIST_KEYS: [f"Artist {first}"], UserRow.ARTIST_SHARES: [0.9]}
        user = {} if action else usual
        state = resolve(Query(ts=AS_OF, session=session, user=user), retrieval.songs)
        pool = retrieval.pool(state)
        rows = retrieval.features(state, pool)
        if action:
            # Artists and clusters are one here; the ranker is to go by the links as well.
            rows[:, hidden] = np.nan
        features.append(rows)
        labels.append(pool.songs % CLUSTERS == first)
        groups.append(len(pool.songs))
    return np.concatenate(features), np.concatenate(labels).astype(np.int64), groups


def write_ranker(folder: Path, random: np.random.Generator) -> None:
    """Train and write the boosters on the bundle's own features."""
    features, labels, groups = training_rows(folder, random)
    names = list(load_retrieval(folder).feature_names)
    common = {"verbose": -1, "num_threads": 1, "min_data_in_leaf": 20, "seed": 1}
    for name, objective in (("ranker", "lambdarank"), ("p_like", "binary"), ("p_skip", "binary")):
        target = 1 - labels if name == "p_skip" else labels
        rows = lightgbm.Dataset(
            features,
            target,
            group=groups if name == "ranker" else None,
            feature_name=names,
            params={"verbose": -1},
        )
        booster = lightgbm.train(common | {"objective": objective}, rows, num_boost_round=8)
        booster.save_model(folder / f"{name}.txt")
    curve = {"raw": [0.0, 1.0], "share": [0.0, 0.4]}
    curves = json.dumps({"p_like": curve, "p_skip": curve})
    (folder / "calibration.json").write_text(curves, encoding="utf-8")


def write_manifest(folder: Path, version: str, as_of: datetime = AS_OF) -> None:
    manifest = {
        "format": FORMAT,
        "version": version,
        "as_of": as_of.isoformat(),
        "feature_service": FEATURE_SERVICE,
        "checksums": checksums(folder),
    }
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def write_bundle(folder: Path, version: str = "test-1") -> Path:
    """Write a whole valid bundle, the same bytes each time but for the version."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(7)
    params = load_params()
    generators = params.generators.model_dump()
    # Off by default; what is served of them is tested here.
    for name in ("listeners", "blend"):
        generators[name]["enabled"] = True
    settings = {
        "generators": generators,
        "signals": {name: signal.model_dump() for name, signal in params.signals.items()},
    }
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    listeners = {
        "listeners": [{"user_id": "user-1", "label": "South Asia, born 1995, 1,846 plays of late"}]
    }
    (folder / "listeners.json").write_text(json.dumps(listeners), encoding="utf-8")
    write_generators(folder, random)
    write_ranker(folder, random)
    write_manifest(folder, version)
    return folder


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a valid bundle that tests only read."""
    return write_bundle(tmp_path_factory.mktemp("bundles") / "test-1")


@pytest.fixture
def copy_bundle(bundle: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that makes a bundle of another version, free to be damaged."""

    def copy(version: str) -> Path:
        folder = tmp_path / "served" / version
        shutil.copytree(bundle, folder)
        write_manifest(folder, version)
        return folder

    return copy


@pytest.fixture
def served(bundle: Path, tmp_path: Path) -> Path:
    """Return a `current` link to the bundle, as `serving.deploy` makes it."""
    link = tmp_path / "served" / "current"
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(bundle)
    return link


def write_lake(lake: Path) -> None:
    """Write two listeners' events of February: `user-1` hears cluster 3, `user-2` cluster 5."""
    rows = []
    for user, first in (("user-1", 3), ("user-2", 5)):
        for day in range(1, 21):
            ts = datetime(2024, 2, day, 8, tzinfo=UTC)
            for place in range(4):
                song = song_id((first + CLUSTERS * ((day + place) % 20)) % SONGS)
                rows.append(
                    (f"{user}-{day}-{place}", ts + timedelta(minutes=4 * place), user, song)
                )
    events = pd.DataFrame(rows, columns=[Event.ID, Event.TS, Event.USER, Event.SONG])
    events[Event.TS] = events[Event.TS].astype("datetime64[us, UTC]")
    events = events.reindex(columns=[*Event.ORDER, Event.RECEIVED])
    events[Event.RECEIVED] = events[Event.RECEIVED].astype("datetime64[us, UTC]")
    events[Event.SESSION] = events[Event.USER] + events[Event.TS].dt.strftime("-%d")
    events[Event.ACTION], events[Event.PLAYED_MS] = Action.PLAY, 170_000
    for day, part in events.groupby(events[Event.TS].dt.date):
        folder = lake / "events" / f"date={day.isoformat()}"
        folder.mkdir(parents=True)
        part.to_parquet(folder / "part.parquet", index=False)
    users = pd.DataFrame({User.ID: ["user-1", "user-2"]}).reindex(columns=list(User.ORDER))
    users[User.SIGNUP_TS] = pd.Timestamp("2024-01-01", tz="UTC")
    users[User.BIRTH_YEAR], users[User.UTC_OFFSET] = 1990, 60
    users[User.COUNTRY], users[User.REGION] = "DE", "Europe"
    users[User.LANGUAGES] = [["en"], ["de"]]
    users[User.FAVOURITE_ARTISTS] = [["Artist 3"], []]
    users.to_parquet(lake / "users.parquet", index=False)
    songs = songs_frame()[list(Song.ORDER)]
    songs[[Song.BAND, Song.COMPOSER]] = ""
    songs.to_parquet(lake / "songs.parquet", index=False)


@pytest.fixture(scope="session")
def store_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data folder with a feature store that knows two listeners as of `AS_OF`."""
    data = tmp_path_factory.mktemp("data")
    write_lake(data / "lake")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        # What Feast and Ibis call deprecated is no concern of the service.
        warnings.simplefilter("ignore")
        patch.setenv("SEGUE_DATA", str(data))
        write_snapshots(data / "lake", data / "features", [AS_OF], load_params())
        store.apply()
        store.materialize(AS_OF)
    return data


@pytest.fixture(scope="session")
def app(bundle: Path, store_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Yield the whole service as an ASGI app, not yet started, over bundle and store."""
    link = tmp_path_factory.mktemp("served") / "current"
    link.symlink_to(bundle)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        # BentoML and Feast use what pydantic and others have deprecated.
        warnings.simplefilter("ignore", DeprecationWarning)
        patch.setenv("SEGUE_BUNDLE", str(link))
        patch.setenv("SEGUE_DATA", str(store_data))
        # Tests ask for what is true, on machines however busy.
        patch.setenv("SEGUE_DEADLINE_MS", "60000")
        from serving.service import service

        yield service().to_asgi()


class Client:
    """Calls the app in this process, from ordinary functions."""

    def __init__(self, portal: BlockingPortal, http: httpx.AsyncClient) -> None:
        self.portal = portal
        self.http = http

    def request(self, method: str, url: str, **more: Any) -> httpx.Response:
        return self.portal.call(partial(self.http.request, method, url, **more))

    def get(self, url: str, **more: Any) -> httpx.Response:
        return self.request("GET", url, **more)

    def post(self, url: str, **more: Any) -> httpx.Response:
        return self.request("POST", url, **more)


@pytest.fixture(scope="module")
def client(app: Any) -> Iterator[Client]:
    """Yield a client of the whole service, started."""
    http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://segue")
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(app.router.lifespan_context(app)),
        portal.wrap_async_context_manager(http),
    ):
        yield Client(portal, http)


POSTGRESQL = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def as_postgres(*words: object) -> None:
    """Run one of PostgreSQL's programs; it refuses to run as root."""
    prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    command = [*(prefix if os.geteuid() == 0 else []), *map(str, words)]
    subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL, timeout=120)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """Yield the address of a real PostgreSQL server of its own, in a temporary folder."""
    if not POSTGRESQL:
        pytest.skip("PostgreSQL is not installed (Debian's package `postgresql`).")
    # pytest's own folders are closed to the user that the server runs as.
    with tempfile.TemporaryDirectory(prefix="segue-pg-") as folder:
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        programs, data, port = POSTGRESQL[-1], Path(folder) / "data", free_port()
        as_postgres(programs / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8")
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1"
        log = Path(folder) / "log"
        as_postgres(programs / "pg_ctl", "-D", data, "-l", log, "-o", options, "-w", "start")
        try:
            yield f"postgresql://postgres@127.0.0.1:{port}/postgres"
        finally:
            as_postgres(programs / "pg_ctl", "-D", data, "-m", "immediate", "stop")


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Yield the address of an empty database, one of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'events' / 'events.db'}"
        return
    url = request.getfixturevalue("postgresql")
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
    yield f"{url.rsplit('/', 1)[0]}/{name}"
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
