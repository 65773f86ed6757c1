"""Events as Arrow tables of the data contract, and Parquet on disk."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.columns import Action, Event
from simulation.draws import Array
from simulation.listeners import Listeners
from simulation.songs import Songs
from simulation.vocabulary import (
    ACTIVITIES,
    DEVICES,
    MODEL_VERSIONS,
    MOODS,
    OCCASIONS,
    SURFACES,
    VARIANTS,
)

# In the order of the action codes in simulation/play.py.
ACTIONS = Action.ALL
_SESSIONS_EACH, _REQUESTS_EACH, _STEPS_EACH = 100_000, 100, 128


def event_table(
    columns: dict[str, Array], listeners: Listeners, songs: Songs, variant: Array
) -> pa.Table:
    """Turn event columns of numbers into the contract's table, in the order given.

    `variant` is each listener's arm of the logging policy; it counts where a row has a request.
    """
    session = columns["user"] * _SESSIONS_EACH + columns["session"]
    given = columns["request"] >= 0
    arm = variant[columns["user"]]
    number = (session * _STEPS_EACH + columns["step"]) * len(ACTIONS) + columns["action"]
    made = {
        Event.ID: _ids("e", number, 18),
        Event.TS: pa.array(columns["ts_us"], pa.timestamp("us", tz="UTC")),
        Event.USER: _take(listeners.ids.tolist(), columns["user"]),
        Event.SONG: _take(songs.ids.tolist(), columns["song"]),
        Event.SESSION: _ids("x", session, 12),
        Event.ACTION: _take(ACTIONS, columns["action"]),
        Event.PLAYED_MS: pa.array(columns["played_ms"], pa.int64(), mask=columns["played_ms"] < 0),
        Event.SURFACE: _take(SURFACES, columns["surface"]),
        Event.OCCASION: _take(OCCASIONS, columns["occasion"], columns["occasion"] > 0),
        Event.MOOD: _take(MOODS, columns["mood"], columns["mood"] > 0),
        Event.ACTIVITY: _take(ACTIVITIES, columns["activity"], columns["activity"] > 0),
        Event.DEVICE: _take(DEVICES, columns["device"]),
        Event.REQUEST: _ids("r", session * _REQUESTS_EACH + columns["request"], 14, given),
        Event.POSITION: pa.array(columns["position"], pa.int32(), mask=~given),
        Event.PROPENSITY: pa.array(columns["propensity"], pa.float64(), mask=~given),
        Event.VARIANT: _take(VARIANTS, arm, given),
        Event.MODEL_VERSION: _take(MODEL_VERSIONS, arm, given),
    }
    return pa.table({name: made[name] for name in Event.ORDER})


def write(table: pa.Table, path: Path) -> None:
    """Write Parquet; the same table gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd", coerce_timestamps="us")


def _take(words: Sequence[str], codes: Array, present: Array | None = None) -> pa.Array:
    indices = pa.array(codes, pa.int64(), mask=None if present is None else ~present)
    return pa.array(words, pa.string()).take(indices)


def _ids(letter: str, numbers: Array, width: int, present: Array | None = None) -> pa.Array:
    """Return a letter and a zero-padded number a row, null where not present."""
    mask = None if present is None else ~present
    digits = pc.cast(pa.array(numbers, pa.int64(), mask=mask), pa.string())
    return pc.binary_join_element_wise(letter, pc.utf8_lpad(digits, width, "0"), "")
