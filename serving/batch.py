"""Answer many queries with the very recommender that is served.

`python -m serving.batch --queries Q.parquet --out P.parquet [--k 20]`

Q has query_id, user_id, ts and session (song ids played so far, in order, may be empty), and may
have session_id; P has query_id, rank (from 1), song_id and score. Listeners are read from the
feature store as of ts, and what the lake has of them between its snapshot and ts is laid over, as
the service does with its event log. Unknown listeners and songs are answered too.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import repeat
from pathlib import Path
from typing import Any, Final, TypeGuard

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from tqdm import tqdm

from features.columns import Event, User, UserRow
from features.forked import forked
from features.mistakes import Mistake, run_command
from features.parsing import TIME, parse
from features.paths import data_dir, served_bundle
from features.query import MAX_SESSION, Query, SessionEvent
from features.store import historical_user_rows
from serving.manifest import history_songs, read_manifest
from serving.past import rows_at
from serving.recommender import Recommender, Slate

COLUMNS: Final = ("query_id", "user_id", "ts", "session")
BLOCK: Final = 256
# No session has this id.
NO_SESSION: Final = ""


def check_queries(queries: pd.DataFrame) -> pd.DataFrame:
    """Return the queries with times in UTC, read as the import reads them.

    Raises
    ------
    Mistake
        If a column is missing, an id is null or comes twice, a time cannot be read, or a session
        is neither a list nor null.
    """
    lacking = [name for name in COLUMNS if name not in queries]
    if lacking:
        raise Mistake(f"The queries lack the columns {lacking}; they need {list(COLUMNS)}.")
    ids = queries["query_id"]
    unusable = ids.isna() | ids.duplicated()
    if unusable.any():
        raise Mistake(f"Row {int(unusable.argmax())}: query_id is missing or comes twice.")
    # By themselves, numbers would be nanoseconds to pandas.
    raw = pa.array(queries["ts"], from_pandas=True)
    if isinstance(raw, pa.DictionaryArray):
        raw = raw.dictionary_decode()
    times = parse(raw, TIME).to_pandas().set_axis(queries.index)
    if times.isna().any():
        raise Mistake(
            f"Row {int(times.isna().argmax())}: ts cannot be read as a time; write ISO 8601."
        )
    no_list = ~queries["session"].map(lambda cell: _is_list(cell) or pd.isna(cell)).astype(bool)
    if no_list.any():
        raise Mistake(f"Row {int(no_list.argmax())}: session is no list; write a list of song ids.")
    return queries.assign(ts=times)


def id_of(cell: Any) -> str | None:
    """Return an id as text, None where there is none; UUIDs, bytes and numbers as the import does.

    Raises
    ------
    Mistake
        If it is bytes that are no UTF-8, or no single value.
    """
    if isinstance(cell, bytes):
        try:
            cell = cell.decode()
        except UnicodeDecodeError:
            raise Mistake(f"The id {cell!r} is no UTF-8; write ids as texts.") from None
    if isinstance(cell, dict) or _is_list(cell):
        raise Mistake(f"The id {cell!r} is no single value; write ids as texts.")
    if cell is None or pd.isna(cell):
        return None
    # Beside nulls whole numbers may come as floats.
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip() or None


def read_queries(
    path: Path, allow_repeats: bool, lake: Path, history_songs: int
) -> tuple[list[str], list[Query]]:
    """Return query ids and queries, each with what was known of its listener at its time.

    Without a lake, that is what the feature store knew.
    """
    # Beside nulls, large whole ids would lose digits as floats.
    frame = check_queries(pq.read_table(path).to_pandas(integer_object_nulls=True))
    asked = questions(frame)
    records: list[Any]
    if lake.exists():
        records = list(rows_at(asked, lake, history_songs))
    else:
        records = historical_user_rows(asked[[User.ID, UserRow.TS]]).to_dict("records")
    queries = [
        Query(
            ts=moment.to_pydatetime(),
            user=record,
            session=tuple(
                SessionEvent(song) for song in filter(None, map(id_of, songs_of(session)))
            ),
            allow_repeats=allow_repeats,
        )
        for record, moment, session in zip(records, frame["ts"], frame["session"], strict=True)
    ]
    return frame["query_id"].tolist(), queries


def questions(frame: pd.DataFrame) -> pd.DataFrame:
    """Return listeners, moments and running sessions as `rows_at` takes them.

    A session without a song begins now, so that no earlier one goes on. Any other is the one named
    by session_id, else the listener's latest.
    """
    named = frame["session_id"] if "session_id" in frame else [None] * len(frame)
    running = [
        id_of(name) if len(songs_of(songs)) else NO_SESSION
        for songs, name in zip(frame["session"], named, strict=True)
    ]
    users = frame["user_id"].map(lambda user: id_of(user) or "")
    sessions = pd.Series(running, frame.index, dtype=object)
    return pd.DataFrame({User.ID: users, UserRow.TS: frame["ts"], Event.SESSION: sessions})


def songs_of(session: object) -> Sequence[object]:
    """Return a session cell's latest songs as a list; null is an empty session."""
    return list(session)[-MAX_SESSION:] if _is_list(session) else []


def _is_list(cell: object) -> TypeGuard[list[object] | tuple[object, ...] | NDArray[Any]]:
    return isinstance(cell, list | tuple | np.ndarray)


def answer(bundle: Path, queries: Sequence[Query], k: int, workers: int) -> Iterator[Slate]:
    """Yield one slate per query, in order, from `workers` processes."""
    blocks = [queries[i : i + BLOCK] for i in range(0, len(queries), BLOCK)]
    workers = max(1, min(workers, len(blocks)))
    with forked(workers) as pool:
        for slates in pool.map(_answer_block, repeat(bundle), blocks, repeat(k)):
            yield from slates


def _answer_block(bundle: Path, queries: Sequence[Query], k: int) -> list[Slate]:
    return _recommender(bundle).recommend_many(queries, k)


@cache
def _recommender(bundle: Path) -> Recommender:
    """Load once a process; with the first block, so that an error reaches the parent as it is."""
    return Recommender.load(bundle)


def answers_frame(ids: Sequence[str], slates: Sequence[Slate]) -> pd.DataFrame:
    """Return one row per query and song."""
    rows = [
        (query_id, rank, song.song_id, song.score)
        for query_id, slate in zip(ids, slates, strict=True)
        for rank, song in enumerate(slate.songs, start=1)
    ]
    # Typed also where there is no row.
    types = {"query_id": "string", "rank": "int64", "song_id": "string", "score": "float64"}
    return pd.DataFrame(rows, columns=list(types)).astype(types)


def write_answers(answers: pd.DataFrame, out: Path) -> None:
    """Write the answers, whole or not at all: a full disk leaves those of before."""
    part = out.with_name(f"{out.name}.part")
    try:
        answers.to_parquet(part, index=False)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Answer the queries of a Parquet file.")
    parser.add_argument("--queries", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--bundle", type=Path, default=served_bundle())
    parser.add_argument("--lake", type=Path, default=data_dir() / "lake")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--no-repeats", action="store_true", help="never answer with a song of the session"
    )
    arguments = parser.parse_args()
    if arguments.k < 1:
        parser.error(f"--k is {arguments.k}; ask for 1 song or more.")
    if not arguments.queries.is_file():
        parser.error(f"There is no file {arguments.queries}.")
    # Told before the work is done, not after it.
    if arguments.out.is_dir() or not os.access(arguments.out.parent, os.W_OK):
        parser.error(f"--out {arguments.out} cannot be written; name a file in a folder that is.")
    return arguments


def main() -> None:
    """Answer the queries of a Parquet file."""
    arguments = _arguments()
    begun = time.perf_counter()
    length = history_songs(read_manifest(arguments.bundle))
    repeats = not arguments.no_repeats
    if not arguments.lake.exists():
        sys.stderr.write(
            f"There is no lake at {arguments.lake}: what listeners did after the feature "
            "store's snapshots is not known. Name it with --lake.\n"
        )
    try:
        ids, queries = read_queries(arguments.queries, repeats, arguments.lake, length)
    except (Mistake, pa.ArrowInvalid) as error:
        raise Mistake(f"{arguments.queries}: {error}") from error
    found = answer(arguments.bundle, queries, arguments.k, arguments.workers)
    slates = list(tqdm(found, total=len(ids), unit="query", mininterval=1))
    write_answers(answers_frame(ids, slates), arguments.out)
    seconds = time.perf_counter() - begun
    sys.stdout.write(
        f"{len(ids):,} queries in {seconds:.1f} s ({len(ids) / seconds:,.0f} a second, start-up "
        f"and features included); wrote {arguments.out}\n"
    )


if __name__ == "__main__":
    run_command(main)
