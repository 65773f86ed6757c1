"""Write a whole bundle of a large drawn catalogue, and the feature store of its listeners.

`python -m benchmarks.big_bundle --songs 10000000 --out DIR` writes `DIR/bundle` and `DIR/data`, in
the real formats, by the real writers where those work on blocks. The ranker is trained by the real
code on real pools over the drawn catalogue. What is drawn is said in `benchmarks.big_world`, the
listeners are in `benchmarks.big_listeners`.
"""

import argparse
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from benchmarks.big_listeners import AS_OF, LISTENERS, listener_rows, request_bodies, write_store
from benchmarks.big_world import (
    FACTORS,
    LANGUAGES,
    MOODS,
    REGIONS,
    World,
    blocks,
    link_counts,
    links,
    sessions,
    world,
)
from features.arrays import ArrayFile
from features.catalogue import NUMBERS, Catalogue, FloatArray, IntArray, map_catalogue
from features.columns import FEATURE_SERVICE, Song, SongRow
from features.mistakes import run_command
from features.names import SCHEMA, save_names
from features.params import Params, SignalName, load_params
from features.query import Query, SessionEvent
from serving.bundle import index_factors, load_retrieval
from serving.files import (
    CALIBRATION_FILE,
    SESSIONS_FILE,
    SETTINGS_FILE,
    factors_file,
    links_file,
    trees_file,
)
from serving.layout import save_artists, save_fresh, save_sessions, save_trending
from serving.lookup import save_search
from serving.manifest import FORMAT, MANIFEST, checksums
from serving.packed import packed
from training.dataset import build_rows
from training.files import write_json
from training.queries import Labelled
from training.ranker import fit_ranker

SIGNALS: Final[tuple[SignalName, ...]] = ("like", "skip", "listen")
SEED: Final = 7
QUERIES: Final = 500
# How many songs each may propose: about 300 together. Of the signals only listening proposes.
CANDIDATES: Final = {
    "transitions": 45,
    "together": 45,
    "sessions": 50,
    "continuations": 40,
    "loops": 20,
    "repeats": 25,
    "artists": 30,
    "fresh": 20,
    "trending": 40,
}
GENRES: Final = tuple(f"genre {i:02d}" for i in range(40))
OCCASIONS: Final = ("christmas", "diwali", "eid", "focus", "party", "wedding", "workout")


def numbered(prefix: str, count: int, width: int) -> np.ndarray:
    """Return `prefix` + zero-padded numbers as fixed-width bytes, ascending."""
    digits = np.arange(count)[:, None] // 10 ** np.arange(width - 1, -1, -1) % 10
    text = np.empty((count, len(prefix) + width), dtype=np.uint8)
    text[:, : len(prefix)] = np.frombuffer(prefix.encode(), np.uint8)
    text[:, len(prefix) :] = digits + ord("0")
    return text.reshape(-1).view(f"S{text.shape[1]}")


def write_songs(drawn: World, folder: Path) -> None:
    """Write the song columns and names."""
    words = {
        Song.ARTISTS: numbered("artist ", drawn.artists, 8),
        Song.GENRES: np.array(GENRES, "S"),
        Song.ALBUM: numbered("album ", 3 * drawn.artists, 8),
        Song.LANGUAGE: np.array(LANGUAGES, "S"),
        Song.REGION: np.array(REGIONS, "S"),
        "era": np.array([str(year) for year in range(1950, 2030, 10)], "S"),
    }
    count = len(drawn)
    with ArrayFile(folder / "songs.npz") as file:
        file.add("ids", numbered("s", count, 8))
        file.add("number_names", np.array(NUMBERS, "S"))
        file.add_parts(
            "numbers",
            (count, len(NUMBERS) + len(Song.AUDIO)),
            np.float32,
            (numbers(drawn, songs) for songs in blocks(count)),
        )
        file.add("audio_mean", np.zeros(len(Song.AUDIO), np.float32))
        file.add("audio_spread", np.ones(len(Song.AUDIO), np.float32))
        file.add("code_names", np.array(list(words), "S"))
        codes_of = (codes(drawn, songs) for songs in blocks(count))
        file.add_parts("codes", (count, len(words)), np.int32, codes_of)
        for name, found in words.items():
            file.add(f"words_{name}", found)
        for kind, (name, tags) in enumerate(((Song.MOODS, MOODS), (Song.OCCASIONS, OCCASIONS))):
            rare = (
                drawn.random(40 + kind, int(songs[0])).random((len(songs), len(tags))) < 0.04
                for songs in blocks(count)
            )
            file.add_parts(f"tags_{name}", (count, len(tags)), np.bool_, rare)
            file.add(f"words_{name}", np.array(tags, "S"))
        for kind, (name, groups) in enumerate((("region", REGIONS), ("language", LANGUAGES))):
            heard = (audience(drawn, songs, kind, len(groups)) for songs in blocks(count))
            file.add_parts(f"{name}_popularity", (count, len(groups)), np.float32, heard)
            file.add(f"{name}s", np.array(groups, "S"))
    save_names(folder / "songs.arrow", name_batches(drawn, words[Song.ARTISTS]))


def numbers(drawn: World, songs: NDArray[np.int64]) -> FloatArray:
    """Return the number columns and audio features of a block."""
    random = drawn.random(50, int(songs[0]))
    plays, n = drawn.plays[songs], len(songs)
    columns = {
        Song.RELEASE_YEAR: release_year(drawn, songs),
        Song.DURATION_MS: random.normal(210_000, 40_000, n).clip(60_000),
        SongRow.PLAYS: plays,
        SongRow.LISTENERS: np.ceil(plays * random.uniform(0.3, 1, n)),
        SongRow.POPULARITY: plays * random.uniform(0.2, 0.8, n),
        # What the quantile function of the plays says: no sort of all songs.
        SongRow.POPULARITY_PERCENTILE: 1 - plays.astype(np.float64) ** -1.1,
        SongRow.TREND: random.normal(0, 1, n),
        SongRow.SKIP_SHARE: random.beta(2, 5, n),
        SongRow.LIKE_SHARE: random.beta(1, 40, n),
        SongRow.AGE_DAYS: random.exponential(2000, n),
    }
    audio = random.standard_normal((n, len(Song.AUDIO)))
    return np.column_stack([*(columns[name] for name in NUMBERS), audio]).astype(np.float32)


def release_year(drawn: World, songs: NDArray[np.int64]) -> IntArray:
    """Return the years of a block: most songs are young."""
    young = drawn.random(51, int(songs[0])).exponential(12, len(songs))
    return (2025 - np.minimum(young, 75)).astype(np.int32)


def codes(drawn: World, songs: NDArray[np.int64]) -> IntArray:
    """Return the code columns of a block: language, region and genre follow the style."""
    random = drawn.random(52, int(songs[0]))
    artist, style = drawn.artist[songs], drawn.style[songs]
    era = (release_year(drawn, songs) // 10 * 10 - 1950) // 10
    return np.column_stack(
        [
            artist,
            style % len(GENRES),
            3 * artist + random.integers(0, 3, len(songs)),
            style % len(LANGUAGES),
            style % len(REGIONS),
            era,
        ]
    ).astype(np.int32)


def audience(drawn: World, songs: NDArray[np.int64], kind: int, groups: int) -> FloatArray:
    """Return popularity by group: most in the style's own, some elsewhere."""
    random = drawn.random(60 + kind, int(songs[0]))
    share = random.random((len(songs), groups), np.float32) ** 8
    share[np.arange(len(songs)), drawn.style[songs] % groups] += 1
    return share * drawn.plays[songs, None].astype(np.float32)


def name_batches(drawn: World, artists: np.ndarray) -> Iterator[pa.RecordBatch]:
    """Yield titles of two words and artists, block by block."""
    words = pa.array([f"word{i}" for i in range(3000)])
    named = pa.array(artists.astype(np.str_))
    for songs in blocks(len(drawn)):
        random = drawn.random(70, int(songs[0]))
        first, second = (
            words.take(pa.array(random.integers(0, 3000, len(songs)))) for _ in range(2)
        )
        title = pc.binary_join_element_wise(first, second, " ")
        one = pa.ListArray.from_arrays(
            pa.array(np.arange(len(songs) + 1, dtype=np.int32)),
            named.take(pa.array(drawn.artist[songs])),
        )
        yield pa.RecordBatch.from_arrays([title, one], schema=SCHEMA)


def write_factors(drawn: World, folder: Path, params: Params) -> None:
    """Write each signal's factors, packed, with their Gram matrix."""
    gram = np.zeros((len(SIGNALS), FACTORS, FACTORS))
    scales = np.empty((len(SIGNALS), len(drawn)), np.float32)
    parts = [folder / f"{signal}.part" for signal in SIGNALS]
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path in parts]
        for songs, block in zip(blocks(len(drawn)), drawn.factors(), strict=True):
            for number, file in enumerate(files):
                rows = packed(block[number].astype(np.float32))
                exact = rows[:]
                gram[number] += exact.T @ exact
                scales[number, songs] = rows.scales
                file.write(rows.codes.data)
    for number, (signal, path) in enumerate(zip(SIGNALS, parts, strict=True)):
        chosen = params.signals[signal]
        stored = np.memmap(path, np.int8, "r").reshape(-1, FACTORS)
        with ArrayFile(folder / factors_file(signal)) as arrays:
            codes = (stored[songs[0] : songs[-1] + 1] for songs in blocks(len(drawn)))
            arrays.add_parts("codes", stored.shape, np.int8, codes)
            arrays.add("scales", scales[number])
            arrays.add("known", np.ones(len(drawn), np.bool_))
            arrays.add("regularization", np.array(chosen.regularization))
            arrays.add("alpha", np.array(chosen.alpha))
            arrays.add("spread", np.array(1.0))
            eye = chosen.regularization * np.eye(FACTORS)
            arrays.add("gram", (gram[number] + eye).astype(np.float32))
        path.unlink()


def write_links(drawn: World, path: Path, kind: int) -> None:
    """Write one matrix from song to song."""
    indptr = np.concatenate([[0], np.cumsum(link_counts(drawn.plays), dtype=np.int64)])
    total = (int(indptr[-1]),)
    with ArrayFile(path) as file:
        file.add("indptr", indptr)
        file.add("shape", np.array([len(drawn)] * 2))
        file.add_parts("indices", total, np.int32, (songs for songs, _ in links(drawn, kind)))
        file.add_parts("data", total, np.float32, (weights for _, weights in links(drawn, kind)))


def write_sessions(drawn: World, folder: Path, params: Params) -> csr_matrix:
    """Write past sessions, two for five songs, and return them."""
    indptr, played = sessions(drawn, max(2 * len(drawn) // 5, 5_000))
    count = len(indptr) - 1
    matrix = csr_matrix(
        (np.ones(len(played), np.float32), played, indptr), shape=(count, len(drawn))
    )
    heard = np.bincount(played, minlength=len(drawn))
    save_sessions(
        folder / SESSIONS_FILE,
        matrix,
        params.generators.sessions.per_song,
        np.linspace(0.3, 1, count).astype(np.float32),
        np.log1p(count / np.maximum(heard, 1)).astype(np.float32),
    )
    return matrix


def write_settings(folder: Path, params: Params) -> None:
    """Write the product's own parameters but for the numbers of candidates."""
    generators = params.generators.model_dump()
    for name, section in generators.items():
        if "enabled" in section:
            section["enabled"] = name in CANDIDATES
        if name in CANDIDATES:
            section["candidates"] = CANDIDATES[name]
    signals = {
        name: params.signals[name].model_dump() | {"candidates": 90 if name == "listen" else 0}
        for name in SIGNALS
    }
    write_json(folder / SETTINGS_FILE, {"generators": generators, "signals": signals})


def labelled(drawn: World, past: csr_matrix, songs: Catalogue, rows: list[Any]) -> list[Labelled]:
    """Return queries after ten songs of past sessions, whose answer is the eleventh."""
    random = drawn.random(90)
    long = np.flatnonzero(np.diff(past.indptr) > 10)
    found = []
    for number, session in enumerate(random.choice(long, min(QUERIES, len(long)), replace=False)):
        played = songs.ids[past.indices[past.indptr[session] :][:11]].tolist()
        events = tuple(SessionEvent(song, "play", 200_000) for song in played[:10])
        user = rows[number % len(rows)] if number % 2 else {}
        query = Query(ts=AS_OF, user=user, session=events)
        found.append(Labelled(str(session), "", query, 10, played[10], "full", (), ()))
    return found


def write_ranker(queries: list[Labelled], folder: Path, params: Params) -> None:
    """Train the ranker on real pools by the real code."""
    rows = build_rows(folder, queries, params.ranker, workers=1)
    names = load_retrieval(folder).feature_names
    fit_ranker(rows, names, params.ranker).save_model(folder / trees_file("ranker"))
    write_json(folder / CALIBRATION_FILE, {})


def write_manifest(folder: Path, songs: int) -> None:
    """Write the manifest."""
    content = {
        "format": FORMAT,
        "version": f"drawn-{songs}",
        "as_of": AS_OF.isoformat(),
        "feature_service": FEATURE_SERVICE,
        "checksums": checksums(folder),
    }
    (folder / MANIFEST).write_text(json.dumps(content), encoding="utf-8")


def write_bundle(songs: int, out: Path, params: Params, bodies: int = 20_000) -> None:
    """Write `bundle`, `data` and `bodies.json` under `out`, saying what takes how long."""
    shutil.rmtree(out, ignore_errors=True)
    folder = out / "bundle"
    folder.mkdir(parents=True)
    begun = time.perf_counter()

    def done(what: str) -> None:
        print(f"{what}: {time.perf_counter() - begun:.0f} s", flush=True)  # noqa: T201

    drawn = world(songs, len(SIGNALS), SEED)
    write_songs(drawn, folder)
    done("songs")
    catalogue = map_catalogue(folder)
    write_factors(drawn, folder, params)
    done("factors")
    for kind, name in enumerate(("transitions", "together")):
        write_links(drawn, folder / links_file(name), kind)
    past = write_sessions(drawn, folder, params)
    done("links and sessions")
    save_artists(folder, catalogue)
    save_fresh(folder, catalogue, params.generators.fresh.days)
    save_trending(folder, (drawn.plays / drawn.plays.sum()).astype(np.float32), catalogue)
    save_search(catalogue, folder)
    write_settings(folder, params)
    done("lists and search")
    index_factors(folder)
    done("index")
    rows = listener_rows(drawn, catalogue, LISTENERS)
    write_ranker(labelled(drawn, past, catalogue, rows), folder, params)
    write_manifest(folder, songs)
    done("ranker")
    write_store(rows, out / "data")
    content = json.dumps(request_bodies(drawn, bodies, SEED, catalogue.ids))
    (out / "bodies.json").write_text(content, encoding="utf-8")
    done("feature store and requests")


def main() -> None:
    """Write one bundle."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--songs", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.songs < 2:
        parser.error("--songs must be 2 or more: one alone follows no other.")
    write_bundle(arguments.songs, arguments.out, load_params())


if __name__ == "__main__":
    run_command(main)
