"""What was shown, to whom, out of what, and how likely it was: the next training set.

Each answer of `/recommend` leaves one row: its candidates with the very features that the ranker
saw, their scores, and the slate with its propensities. Rows are written behind the answers' back,
in a thread; they lie beside the event log (`exposures.db`) or in the same PostgreSQL database.
"""

import json
import logging
from collections import Counter as Counted
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from prometheus_client import Counter
from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    LargeBinary,
    MetaData,
    Select,
    Table,
    Text,
    select,
)
from sqlalchemy.engine import Connection, RowMapping
from sqlalchemy.exc import OperationalError

from features.columns import Event, Song
from features.times import EPOCH, microseconds
from features.words import Chosen
from serving.batching import Batcher, FullError
from serving.database import Database

log = logging.getLogger("serving.exposures")

# At most so many answers wait (about 200 KB each), and so long.
MOST: Final = 256
LARGEST: Final = 64
# Short: an answer that is made meanwhile waits the longer the more there is to write.
LINGER_SECONDS: Final = 0.03
CODEC: Final = "zstd"
# An exposure is some 25 KB: in SQLite's usual pages of 4 KB it takes twice as long to write.
PAGE_BYTES: Final = 16_384
READ_ROWS: Final = 256
# Of rows without what makes them large.
FORGET_ROWS: Final = 4096
# An exposure takes some sixty times an event's room, and no event may be refused for it: this
# much holds some 300,000 events, which is time to make room.
LEAST_ROOM_BYTES: Final = 128 << 20
NUL: Final = b"\0"
SHARED: Final = (
    Event.REQUEST,
    Event.TS,
    Event.USER,
    Event.VARIANT,
    Event.MODEL_VERSION,
    "temperature",
)
CANDIDATES: Final = (Song.ID, "score", Event.POSITION, Event.PROPENSITY)

metadata = MetaData()
exposures = Table(
    "exposures",
    metadata,
    Column(Event.REQUEST, Text, primary_key=True),
    Column(Event.TS, BigInteger, nullable=False),
    Column(Event.USER, Text),
    Column(Event.VARIANT, Text, nullable=False),
    Column(Event.MODEL_VERSION, Text, nullable=False),
    Column("temperature", Float(53), nullable=False),
    Column("degraded", Text, nullable=False),
    Column("request", Text, nullable=False),
    *(Column(name, LargeBinary, nullable=False) for name in ("songs", "scores", "shown")),
    *(Column(name, LargeBinary, nullable=False) for name in ("propensities", "features")),
    Index("exposures_by_time", Event.TS),
)
feature_names = Table(
    "exposure_features",
    metadata,
    Column(Event.MODEL_VERSION, Text, primary_key=True),
    Column("names", Text, nullable=False),
)
exposures_total = Counter(
    "segue_exposures_total", "Answers logged as exposures, by outcome.", labelnames=["outcome"]
)


@dataclass(frozen=True)
class Exposure:
    """One answer and what it was chosen from.

    Attributes
    ----------
    ts
        The server's time of the answer.
    request
        The request as JSON.
    songs, scores, features
        The candidates: ids (n,), final scores (n,), the ranker's input (n, features); no features
        where the answer was made without them.
    shown, propensities
        The slate: places among the candidates in order (k,), and the probability of each given
        those before it (k,).
    """

    request_id: str
    ts: datetime
    user_id: str | None
    variant: str
    model_version: str
    temperature: float
    degraded: tuple[str, ...]
    request: str
    songs: Sequence[str]
    scores: NDArray[np.float64]
    shown: NDArray[np.intp]
    propensities: NDArray[np.float64]
    features: NDArray[np.float32]
    feature_names: tuple[str, ...]

    @property
    def asked_ts(self) -> datetime:
        """The moment that the answer is for, which its features are of."""
        named = (json.loads(self.request).get("context") or {}).get("ts")
        return datetime.fromisoformat(named) if named else self.ts


class ExposureLog:
    """Writes exposures in a thread of its own, and reads them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._named: set[str] = set()
        self._crowded = False
        self._batcher: Batcher[Callable[[], Exposure], str] = Batcher(
            self._made_and_written, "exposures", MOST, LARGEST, LINGER_SECONDS
        )

    @classmethod
    def open(cls, url: str) -> "ExposureLog":
        """Open the log; its tables are made at first use where there are none."""
        # A killed process loses nothing that was committed, a power cut the last commits.
        return cls(Database(url, metadata, synchronous="NORMAL", page_bytes=PAGE_BYTES))

    def put(self, make: Callable[[], Exposure]) -> None:
        """Hand in what makes an exposure; where too many wait it is counted and dropped.

        It is called in this log's thread.
        """
        try:
            self._batcher.put(make)
        except FullError:
            exposures_total.labels("dropped").inc()

    def write(self, group: Sequence[Exposure]) -> list[str]:
        """Write exposures in one transaction, each by itself where one of them spoils that.

        Returns
        -------
        list of str
            What became of them, in no certain order: `written`, `known` (its request id is in the
            log) or `failed`.

        Raises
        ------
        Exception
            If the database takes none at all.
        """
        try:
            return self._written(group)
        except Exception as error:
            # A database that is gone, full or locked would refuse each of them, too.
            if len(group) == 1 or isinstance(error.__cause__, OperationalError):
                raise
        return [self._written_alone(one) for one in group]

    def read(self, since: datetime, until: datetime) -> Iterator[Exposure]:
        """Yield the exposures with since <= ts < until, in order of time, block by block.

        Whole, a day's would fill the memory, and take longer than PostgreSQL lets a statement run.
        """
        wanted = select(exposures).where(exposures.c[Event.TS] < microseconds(until))
        for found in self._blocks(wanted, READ_ROWS, microseconds(since)):
            with self.database.reading() as connection:
                # Afterwards: those of what was written meanwhile are there, too.
                named = connection.execute(select(feature_names)).all()
            names = {version: tuple(json.loads(text)) for version, text in named}
            for row in found:
                yield _unpacked(dict(row), names.get(row[Event.MODEL_VERSION], ()))

    def forget(self, before: datetime) -> Iterator[int]:
        """Delete the exposures of before a moment, block by block; yield how many went each time.

        Others write between the blocks. A SQLite file stays as large as it is, and fills anew.
        """
        ts, request = exposures.c[Event.TS], exposures.c[Event.REQUEST]
        old = select(request).where(ts < microseconds(before)).order_by(ts)
        return self.database.delete(request, old, READ_ROWS)

    def forget_user(self, user_id: str) -> Iterator[int]:
        """Delete a listener's exposures, block by block; yield how many went each time.

        All exposures are gone through in order of time: there is no index of listeners.
        """
        ts, request, user = (exposures.c[name] for name in (Event.TS, Event.REQUEST, Event.USER))
        for found in self._blocks(select(ts, request, user), FORGET_ROWS):
            own = [row[Event.REQUEST] for row in found if row[Event.USER] == user_id]
            if own:
                mine = select(request).where(request.in_(own))
                yield from self.database.delete(request, mine, FORGET_ROWS)

    def _blocks(
        self, wanted: "Select[Any]", rows: int, since_us: int = 0
    ) -> Iterator[Sequence[RowMapping]]:
        """Yield what is wanted from a moment on, in order of time, so many rows at a time."""
        ts, request = exposures.c[Event.TS], exposures.c[Event.REQUEST]
        ordered = wanted.order_by(ts, request).limit(rows)
        last = since_us, ""
        while True:
            later = (ts >= last[0]) & ((ts > last[0]) | (request > last[1]))
            with self.database.reading() as connection:
                found = connection.execute(ordered.where(later)).mappings().all()
            yield found
            if len(found) < rows:
                return
            last = found[-1][Event.TS], found[-1][Event.REQUEST]

    def close(self) -> None:
        """Write what waits and close all connections."""
        self._batcher.stop()
        self.database.close()

    def _made_and_written(self, makes: Sequence[Callable[[], Exposure]]) -> list[str]:
        """Make and write exposures; return and count what became of them."""
        made = [one for one in map(_made, makes) if one is not None]
        try:
            outcomes = self.write(made) if self._has_room() else ["dropped"] * len(made)
        except Exception as error:  # noqa: BLE001 - nobody waits for it; it is counted
            log.warning("%d exposures were not written: %s", len(made), error)
            outcomes = ["failed"] * len(made)
        outcomes += ["failed"] * (len(makes) - len(made))
        for outcome, count in Counted(outcomes).items():
            exposures_total.labels(outcome).inc(count)
        return outcomes

    def _has_room(self) -> bool:
        """Tell whether the disk has room for more than events; say so once where it has not."""
        room = self.database.room_bytes()
        if room >= LEAST_ROOM_BYTES:
            self._crowded = False
        elif not self._crowded:
            self._crowded = True
            log.warning(
                "Exposures are dropped: %.0f MiB are left on the disk, and the last %.0f are the "
                "events'. `python -m serving.forget_exposures` deletes old ones.",
                room / (1 << 20),
                LEAST_ROOM_BYTES / (1 << 20),
            )
        return not self._crowded

    def _written(self, group: Sequence[Exposure]) -> list[str]:
        rows = [_packed(one) for one in group]
        with self.database.writing() as connection:
            named = self._name_features(connection, group)
            # Clients choose request ids, and may choose one twice.
            new = self.database.count_new(connection, exposures, rows, Event.REQUEST)
        self._named |= named
        return ["written"] * new + ["known"] * (len(group) - new)

    def _written_alone(self, one: Exposure) -> str:
        try:
            return self._written([one])[0]
        except Exception as error:  # noqa: BLE001 - whatever ails it, the others are written
            log.warning("An exposure was not written: %s", error)
            return "failed"

    def _name_features(self, connection: Connection, group: Sequence[Exposure]) -> set[str]:
        named = {one.model_version: one.feature_names for one in group if one.feature_names}
        new = [
            {Event.MODEL_VERSION: version, "names": json.dumps(names)}
            for version, names in named.items()
            if version not in self._named
        ]
        self.database.insert_new(connection, feature_names, new, Event.MODEL_VERSION)
        return set(named)


def frame(found: Sequence[Exposure]) -> pd.DataFrame:
    """Return one row a candidate: the exposure's columns, `CANDIDATES` and the features.

    `position` counts from 1; it and `propensity` are NaN for what was not shown.
    """
    # Columns without rows have no types to agree on with the others.
    parts = [_frame(one) for one in found if len(one.songs)]
    if not parts:
        return pd.DataFrame(columns=[*SHARED, *CANDIDATES])
    return pd.concat(parts, ignore_index=True)


def _made(make: Callable[[], Exposure]) -> Exposure | None:
    try:
        return make()
    except Exception:
        log.exception("An exposure was not made.")
        return None


def _packed(one: Exposure) -> dict[str, Any]:
    return {
        Event.REQUEST: one.request_id,
        Event.TS: microseconds(one.ts),
        Event.USER: one.user_id,
        Event.VARIANT: one.variant,
        Event.MODEL_VERSION: one.model_version,
        "temperature": one.temperature,
        "degraded": json.dumps(one.degraded),
        "request": one.request,
        "songs": _compressed(_joined(one.songs)),
        "scores": one.scores.astype("<f8").tobytes(),
        "shown": one.shown.astype("<i4").tobytes(),
        "propensities": one.propensities.astype("<f8").tobytes(),
        # Column by column: what is the same for all candidates then takes next to nothing.
        "features": _compressed(np.ascontiguousarray(one.features.T, dtype="<f4").data),
    }


def _unpacked(row: dict[str, Any], names: tuple[str, ...]) -> Exposure:
    songs = _parted(_expanded(row["songs"]))
    block = np.frombuffer(_expanded(row["features"]), "<f4")
    return Exposure(
        request_id=row[Event.REQUEST],
        ts=EPOCH + timedelta(microseconds=row[Event.TS]),
        user_id=row[Event.USER],
        variant=row[Event.VARIANT],
        model_version=row[Event.MODEL_VERSION],
        temperature=row["temperature"],
        degraded=tuple(json.loads(row["degraded"])),
        request=row["request"],
        songs=songs,
        scores=np.frombuffer(row["scores"], "<f8"),
        shown=np.frombuffer(row["shown"], "<i4").astype(np.intp),
        propensities=np.frombuffer(row["propensities"], "<f8"),
        features=block.reshape(len(songs), -1, order="F") if len(block) else block.reshape(0, 0),
        feature_names=names if len(block) else (),
    )


def _frame(one: Exposure) -> pd.DataFrame:
    count = len(one.songs)
    position, propensity = np.full(count, np.nan), np.full(count, np.nan)
    position[one.shown] = np.arange(1, len(one.shown) + 1)
    propensity[one.shown] = one.propensities
    values = (one.request_id, one.ts, one.user_id, one.variant, one.model_version, one.temperature)
    columns = dict(zip(CANDIDATES, (one.songs, one.scores, position, propensity), strict=True))
    features = {name: one.features[:, i] for i, name in enumerate(one.feature_names)}
    shared = {name: [value] * count for name, value in zip(SHARED, values, strict=True)}
    return pd.DataFrame(shared | columns | features)


def _joined(songs: Sequence[str]) -> bytes:
    """Return ids as one text, a NUL before each; none has one in it."""
    # What was looked up need not be decoded for that.
    if isinstance(songs, Chosen):
        keys = songs.words.keys[songs.at].tolist()
    else:
        keys = [song.encode() for song in songs]
    return b"".join([NUL + key for key in keys])


def _parted(text: bytes) -> list[str]:
    """Return the ids of a text, of a JSON list too: so they were written at first."""
    if text.startswith(b"["):
        return list(json.loads(text))
    return text.decode().split(NUL.decode())[1:]


def _compressed(data: bytes | memoryview) -> bytes:
    # Its length goes first: the codec wants to know it.
    plain = pa.py_buffer(data)
    packed: bytes = pa.compress(plain, codec=CODEC, asbytes=True)
    return plain.size.to_bytes(8, "little") + packed


def _expanded(data: bytes) -> bytes:
    size = int.from_bytes(data[:8], "little")
    expanded: bytes = pa.decompress(data[8:], size, codec=CODEC, asbytes=True)
    return expanded
