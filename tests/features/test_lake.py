from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.columns import Event, Song, User
from features.contract import TABLES
from features.lake import (
    EVENTS,
    SONGS,
    USERS,
    event_files,
    event_folder,
    read_events,
    read_songs,
    read_summary,
    read_users,
)

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def _write(
    lake: Path, moments: dict[str, datetime], received: dict[str, datetime] | None = None
) -> None:
    """Write one event per moment as the importer would: by day, in order."""
    same = {Event.USER: "u", Event.SONG: "s", Event.PLAYED_MS: 5}
    rows = [
        {Event.ID: event, Event.TS: ts, Event.RECEIVED: (received or {}).get(event), **same}
        for event, ts in sorted(moments.items(), key=lambda item: (item[1], item[0]))
    ]
    for day in {row[Event.TS].date() for row in rows}:
        folder = event_folder(lake, day)
        folder.mkdir(parents=True)
        of_day = [row for row in rows if row[Event.TS].date() == day]
        pq.write_table(
            pa.Table.from_pylist(of_day, TABLES[EVENTS].schema), folder / "part-0.parquet"
        )


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    moments = {f"h{hour:03}": NOON + timedelta(hours=hour) for hour in range(0, 72, 6)}
    _write(tmp_path, moments | {"b": NOON, "a": NOON})
    for name in (USERS, SONGS):
        table = TABLES[name]
        rows = [{table.key: "x"}, {table.key: "y"}]
        pq.write_table(pa.Table.from_pylist(rows, table.schema), tmp_path / f"{name}.parquet")
    (tmp_path / "summary.json").write_text('{"kept": 14}')
    return tmp_path


def test_all_events_come_sorted_by_time_then_id(lake: Path) -> None:
    events = read_events(lake)
    assert list(events.columns) == [*Event.ORDER, Event.RECEIVED]
    assert events[Event.ID].tolist()[:4] == ["a", "b", "h000", "h006"]
    assert events[Event.TS].is_monotonic_increasing
    assert len(events) == 14


def test_the_span_is_half_open(lake: Path) -> None:
    events = read_events(lake, NOON + timedelta(hours=6), NOON + timedelta(hours=18))
    assert events[Event.ID].tolist() == ["h006", "h012"]


def test_a_bound_at_midnight_leaves_the_next_day_out(lake: Path) -> None:
    midnight = datetime(2024, 5, 2, tzinfo=UTC)
    assert read_events(lake, until=midnight)[Event.ID].tolist() == ["a", "b", "h000", "h006"]
    assert read_events(lake, since=midnight)[Event.ID].tolist()[0] == "h012"


def test_bounds_of_another_zone_mean_the_same_moment(lake: Path) -> None:
    since = NOON + timedelta(hours=13)
    local = pd.Timestamp(since).tz_convert("Asia/Kolkata").to_pydatetime()
    assert read_events(lake, local).equals(read_events(lake, since))


def test_only_the_days_of_the_span_are_opened(lake: Path) -> None:
    last = event_files(lake)[-1][1]
    last.write_bytes(b"not Parquet")
    assert len(read_events(lake, until=NOON + timedelta(hours=1))) == 3
    with pytest.raises(pa.ArrowInvalid):
        read_events(lake)


def test_columns_come_as_asked_and_the_span_needs_no_time_column(lake: Path) -> None:
    columns = [Event.SONG, Event.ID]
    events = read_events(lake, NOON + timedelta(hours=66), columns=columns)
    assert list(events.columns) == columns
    assert events[Event.ID].tolist() == ["h066"]


def test_types_do_not_depend_on_what_is_there(lake: Path) -> None:
    some, none = read_events(lake), read_events(lake, NOON + timedelta(days=99))
    assert none.empty
    assert none.dtypes.equals(some.dtypes)
    assert str(some[Event.TS].dtype) == "datetime64[us, UTC]"
    assert some[Event.PLAYED_MS].dtype == some[Event.POSITION].dtype == float
    columns = [Event.ID, Event.PLAYED_MS]
    assert list(read_events(lake, NOON + timedelta(days=99), columns=columns)) == columns


def test_absent_values_are_null(lake: Path) -> None:
    assert read_events(lake)[Event.MOOD].isna().all()
    assert read_songs(lake)[Song.TITLE].tolist() == [None, None]
    assert read_users(lake)[User.BIRTH_YEAR].isna().all()


def test_the_summary_is_read(lake: Path) -> None:
    assert read_summary(lake) == {"kept": 14}


def test_a_naive_bound_is_refused(lake: Path) -> None:
    naive = NOON.replace(tzinfo=None)
    with pytest.raises(ValueError, match="`since` .* has no time zone"):
        read_events(lake, naive)
    with pytest.raises(ValueError, match="`until` .* has no time zone"):
        read_events(lake, until=naive)


@pytest.mark.parametrize("read", [read_events, read_users, read_songs, read_summary])
def test_a_missing_lake_is_named(tmp_path: Path, read: object) -> None:
    with pytest.raises(FileNotFoundError, match=r"no lake at .*nowhere.*features\.ingest"):
        read(tmp_path / "nowhere")  # type: ignore[operator]


def test_a_lake_without_events_says_so(tmp_path: Path) -> None:
    (tmp_path / EVENTS).mkdir()
    with pytest.raises(FileNotFoundError, match="holds no events"):
        read_events(tmp_path)


def test_what_arrives_later_is_not_known_yet(tmp_path: Path) -> None:
    hour = timedelta(hours=1)
    moments = {name: NOON + place * hour for place, name in enumerate("abcd")}
    _write(tmp_path, moments, {"a": NOON + 30 * hour, "b": NOON + 2 * hour, "c": NOON})
    tick = timedelta(microseconds=1)
    known = {2 * hour: "cd", 2 * hour + tick: "bcd", 30 * hour: "bcd", 30 * hour + tick: "abcd"}
    for after, names in known.items():
        found = read_events(tmp_path, known_by=NOON + after)
        assert found[Event.ID].tolist() == list(names)
    within = read_events(tmp_path, NOON, NOON + 3 * hour, [Event.ID], known_by=NOON + 3 * hour)
    assert within[Event.ID].tolist() == ["b", "c"]
    with pytest.raises(ValueError, match="`known_by`"):
        read_events(tmp_path, known_by=NOON.replace(tzinfo=None))
