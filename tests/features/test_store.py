import errno
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from feast.infra.registry.file import FileRegistryStore

from features import online_rows, store
from features.columns import SONG_VIEWS, USER_VIEWS, Song, User, UserRow
from features.paths import data_dir
from features.snapshots import snapshot_times, write_snapshots
from tests.features import naive, worlds

pytestmark = pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")

PARAMS = worlds.small_params()
EVENTS, USERS, SONGS = worlds.random_world(seed=7, events=1500)
LATE = {"user_id": "late", "region": "north", "signup_ts": worlds.START + timedelta(days=40)}
USERS += [{**USERS[0], **LATE}]
WORLD = naive.World(EVENTS, USERS, SONGS, PARAMS)
PHASES = {
    "earlier": ["2024-01-16T00:00:00Z", "2024-01-25T23:00:00Z"],
    "labels": ["2024-01-26T00:00:00Z", "2024-02-05T00:00:00Z"],
    "test": ["2024-02-05T01:00:00Z", "2024-02-15T00:00:00Z"],
    "as_of": "2024-02-15T00:00:00Z",
}
TIMES = snapshot_times(PHASES, PARAMS.features.snapshots_per_phase)
USER_IDS = ["late", *(f"u{number}" for number in range(26))]
SONG_IDS = [f"s{number}" for number in range(42)]
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Snapshots of a small world in a data folder of their own, with a leak planted on top."""
    # Brackets: no path is a pattern.
    folder = tmp_path_factory.mktemp("data [1]")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGUE_DATA", str(folder))
        worlds.write_lake(folder / "lake", EVENTS, USERS, SONGS)
        write_snapshots(folder / "lake", folder / "features", TIMES, PARAMS)
        _plant_future_snapshot(folder / "features" / "user_activity.parquet")
        store.apply()
        yield folder


def _plant_future_snapshot(path):
    """Add rows that know too much, dated after every query of these tests."""
    table = pq.read_table(path)
    leak = table.filter(pc.equal(table[UserRow.TS], TIMES[-1]))
    late = pa.array([TIMES[-1] + 100 * HOUR] * len(leak), leak.schema.field(UserRow.TS).type)
    leak = leak.set_column(leak.schema.get_field_index(UserRow.TS), UserRow.TS, late)
    plays = pa.array([999_999] * len(leak), pa.int64())
    leak = leak.set_column(leak.schema.get_field_index("plays"), "plays", plays)
    pq.write_table(pa.concat_tables([table, leak]), path)


def entities(owner, ids, moments):
    pairs = [(key, moment) for moment in moments for key in ids]
    frame = pd.DataFrame(pairs, columns=[owner, UserRow.TS])
    return frame.astype({UserRow.TS: "datetime64[us, UTC]"})


def expected_row(owner, key, moment):
    """Return the naive features as of the latest snapshot by then, or the documented defaults."""
    known = [time for time in TIMES if time <= moment]
    of = WORLD.user_row if owner == User.ID else WORLD.song_row
    return (known and of(key, known[-1])) or defaults(owner, key)


def defaults(owner, key):
    table = {User.ID: worlds.USERS, Song.ID: worlds.SONGS}[owner]
    views = {User.ID: USER_VIEWS, Song.ID: SONG_VIEWS}[owner]
    names = [name for view in views.values() for name in view]
    endings = ("_keys", "_shares", "_means", "_popularity")
    lists = {name for name in names if name.startswith("history_") or name.endswith(endings)}
    lists |= {name for name in table.names if table.field(name).type == worlds.STRINGS}
    return {owner: key, **{name: [] if name in lists else None for name in names}}


def without_time(row):
    return {name: value for name, value in dict(row).items() if name != UserRow.TS}


@pytest.mark.parametrize("owner", [User.ID, Song.ID])
@pytest.mark.parametrize("moment", [TIMES[1], TIMES[2] + HOUR, TIMES[-1] + 99 * HOUR])
def test_historical_equals_online_equals_a_loop_over_the_events(data, owner, moment):
    ids, historical, online = {
        User.ID: (USER_IDS, store.historical_user_rows, store.online_user_rows),
        Song.ID: (SONG_IDS, store.historical_song_rows, store.online_song_rows),
    }[owner]
    store.materialize(moment)
    past = historical(entities(owner, ids, [moment])).to_dict("records")
    now = online(ids)
    assert len(past) == len(now) == len(ids)
    for key, before, latest in zip(ids, past, now, strict=True):
        expected = expected_row(owner, key, moment)
        naive.assert_same(without_time(before), expected)
        naive.assert_same(latest, expected)


def test_a_snapshot_knows_what_had_arrived(tmp_path):
    """As if what arrived later had not happened yet."""
    rng = np.random.default_rng(1)
    days = timedelta(days=1) * rng.exponential(8, len(EVENTS)) * (rng.random(len(EVENTS)) < 0.3)
    events = [
        {**event, "received_ts": event["ts"] + late if late else None}
        for event, late in zip(EVENTS, days, strict=True)
    ]
    worlds.write_lake(tmp_path / "lake", events, USERS, SONGS)
    write_snapshots(tmp_path / "lake", tmp_path / "features", TIMES, PARAMS)
    for moment in TIMES:
        folder = tmp_path / f"{moment:%d-%H}"
        known = [one for one in events if max(one["ts"], one["received_ts"] or one["ts"]) < moment]
        missed = sum(one["ts"] < moment for one in events) - len(known)
        assert missed > 20
        alone = [{**event, "received_ts": None} for event in known]
        worlds.write_lake(folder / "lake", alone, USERS, SONGS)
        write_snapshots(folder / "lake", folder / "features", [moment], PARAMS)
        for path in (folder / "features").iterdir():
            snapshots = pq.read_table(tmp_path / "features" / path.name)
            found = snapshots.filter(pc.equal(snapshots[UserRow.TS], moment))
            expected = pq.read_table(path).to_pylist()
            for row, alike in zip(found.to_pylist(), expected, strict=True):
                naive.assert_same(row, alike)


def test_each_row_is_joined_at_its_own_time(data):
    rng = np.random.default_rng(0)
    span = (TIMES[-1] - TIMES[0] + 20 * HOUR) / timedelta(microseconds=1)
    steps = [timedelta(microseconds=int(step)) for step in rng.integers(0, int(span), 300)]
    asked = pd.DataFrame(
        {
            User.ID: rng.choice([*USER_IDS, "nobody"], 300),
            UserRow.TS: pd.DatetimeIndex([TIMES[0] - 10 * HOUR + step for step in steps]),
        }
    )
    found = store.historical_user_rows(asked)
    assert found[User.ID].tolist() == asked[User.ID].tolist()
    assert found[UserRow.TS].tolist() == asked[UserRow.TS].tolist()
    for row, moment in zip(found.to_dict("records"), asked[UserRow.TS], strict=True):
        naive.assert_same(without_time(row), expected_row(User.ID, row[User.ID], moment))


def test_a_snapshot_counts_from_its_own_moment_on(data):
    just = [pd.Timestamp(TIMES[3]) - pd.Timedelta(1, "ns"), pd.Timestamp(TIMES[3])]
    asked = pd.DataFrame({User.ID: USER_IDS * 2, UserRow.TS: np.repeat(just, len(USER_IDS))})
    found = store.historical_user_rows(asked)
    plays = found["plays"].fillna(0).to_numpy().reshape(2, -1)
    rows = [[WORLD.user_row(user, time) for user in USER_IDS] for time in TIMES[2:4]]
    expected = [[row["plays"] or 0 if row else 0 for row in at] for at in rows]
    np.testing.assert_array_equal(plays, expected)
    assert (plays[0] != plays[1]).any()


@pytest.mark.parametrize(("unit", "zone"), [("us", "UTC"), ("ns", "Asia/Kolkata")])
def test_moments_of_arrow_are_moments(data, unit, zone):
    asked = entities(User.ID, USER_IDS, [TIMES[-1]])
    found = store.historical_user_rows(
        asked.astype({UserRow.TS: pd.ArrowDtype(pa.timestamp(unit, zone))})
    )
    pd.testing.assert_frame_equal(found[["plays"]], store.historical_user_rows(asked)[["plays"]])
    with pytest.raises(ValueError, match="time zone"):
        store.historical_user_rows(asked.astype({UserRow.TS: pd.ArrowDtype(pa.timestamp(unit))}))


def test_rows_may_repeat_and_keep_their_order_and_index(data):
    asked = entities(User.ID, ["u3", "u1", "u3", "u2"], [TIMES[-1]])
    asked.index = pd.Index([7, 5, 3, 1])
    found = store.historical_user_rows(asked)
    assert found[User.ID].tolist() == ["u3", "u1", "u3", "u2"]
    assert found.index.tolist() == [7, 5, 3, 1]
    naive.assert_same(dict(found.loc[7]), dict(found.loc[3]))


def test_nobody_asked_for_gives_no_rows(data):
    keys = pd.DataFrame({"user_id": [], UserRow.TS: pd.to_datetime([], utc=True)})
    found = store.historical_user_rows(keys)
    assert found.empty
    assert UserRow.PLAYS in found.columns


def test_materialising_an_earlier_moment_goes_back_to_it(data):
    store.materialize(TIMES[-1])
    assert store.online_user_row("late")["region"] == "north"
    store.materialize(TIMES[0])
    assert store.online_user_row("late") == defaults(User.ID, "late")
    first = store.online_user_rows(USER_IDS)
    store.materialize(TIMES[0])
    for got, expected in zip(store.online_user_rows(USER_IDS), first, strict=True):
        naive.assert_same(got, expected)


def test_unknown_keys_give_the_documented_defaults(data):
    store.materialize(TIMES[-1])
    assert store.online_user_row("nobody") == defaults(User.ID, "nobody")
    assert store.online_song_rows(["nothing"]) == [defaults(Song.ID, "nothing")]
    past = store.historical_user_rows(entities(User.ID, ["nobody"], [TIMES[-1]]))
    naive.assert_same(without_time(past.iloc[0]), defaults(User.ID, "nobody"))


def test_events_after_the_snapshot_change_no_file(data, tmp_path):
    moment = TIMES[0]
    past = [event for event in EVENTS if event["ts"] < moment]
    planted = [{**event, "ts": moment} for event in past[:50]]
    for name, events in {"with": [*EVENTS, *planted], "without": past}.items():
        worlds.write_lake(tmp_path / name, events, USERS, SONGS)
        write_snapshots(tmp_path / name, tmp_path / f"{name}-out", [moment], PARAMS)
    for view in (*USER_VIEWS, *SONG_VIEWS):
        one, two = (
            pq.read_table(tmp_path / f"{name}-out" / f"{view}.parquet").to_pylist()
            for name in ("with", "without")
        )
        assert len(one) == len(two) > 0
        for got, expected in zip(one, two, strict=True):
            naive.assert_same(got, expected)


def test_the_command_line_prints_what_python_reads(data, capsys, monkeypatch):
    store.materialize(TIMES[-1])
    row = store.online_user_row("u1")
    capsys.readouterr()
    moment = TIMES[-1].isoformat()
    for command in (["lookup"], ["historical", "--at", moment]):
        monkeypatch.setattr("sys.argv", ["store", *command, "--user", "u1"])
        store.main()
        printed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
        assert set(printed) - {UserRow.TS} == set(row)
        assert printed["plays"] == str(row["plays"])
        assert printed["history_songs"].startswith(f"[{row['history_songs'][0]}, ")


@pytest.mark.parametrize("moment", ["9999-12-31", "1600-01-01", "0001-01-01T00:00:00Z"])
def test_the_command_line_takes_any_moment(data, capsys, monkeypatch, moment):
    monkeypatch.setattr("sys.argv", ["store", "historical", "--at", moment, "--user", "u1"])
    store.main()
    printed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert (printed["plays"] == "nan") is (moment < "2000")


def test_a_moment_beyond_all_calendars_is_refused(data, capsys, monkeypatch):
    moment = "9999-12-31T23:59:59-14:00"
    monkeypatch.setattr("sys.argv", ["store", "historical", "--at", moment, "--user", "u1"])
    with pytest.raises(SystemExit, match="2"):
        store.main()
    assert moment in capsys.readouterr().err


def test_the_command_line_fills_the_store(data, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["store", "apply"])
    store.main()
    assert "registered ranker_v1" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["store", "materialize", "--until", TIMES[-1].isoformat()])
    store.main()
    assert str(data / "feast" / "online.db") in capsys.readouterr().out


@pytest.mark.parametrize("kept", [0, 0.5])
def test_a_registry_that_was_cut_off_is_made_anew(data, kept):
    store.materialize(TIMES[-1])
    row = store.online_user_row("u1")
    registry = data / "feast" / "registry.db"
    whole = registry.read_bytes()
    registry.write_bytes(whole[: int(kept * len(whole))])
    online_rows._reader.cache_clear()
    store.materialize(TIMES[-1])
    assert str(store.online_user_row("u1")) == str(row)


@pytest.mark.parametrize("fill", [store.apply, lambda: store.materialize(TIMES[-1])])
def test_a_full_disk_leaves_the_registry_whole(data, monkeypatch, fill):
    store.materialize(TIMES[-1])
    before = {path.name: path.read_bytes() for path in (data / "feast").iterdir()}

    def full_disk(self, registry):
        self._filepath.write_bytes(b"")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(FileRegistryStore, "_write_registry", full_disk)
    with pytest.raises(OSError, match="No space left"):
        fill()
    assert {path.name: path.read_bytes() for path in (data / "feast").iterdir()} == before


def test_an_empty_data_folder_is_explained(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGUE_DATA", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="make deploy"):
        store.online_user_row("u1")
    with pytest.raises(FileNotFoundError, match="features.ingest"):
        write_snapshots(data_dir() / "lake", tmp_path / "out", TIMES, PARAMS)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (pd.DataFrame({"user_id": ["u1"]}), "lack"),
        (pd.DataFrame({"user_id": ["u1"], UserRow.TS: [pd.Timestamp(0)]}), "time zone"),
        (pd.DataFrame({"user_id": [1], UserRow.TS: [pd.Timestamp(0, tz="UTC")]}), "as texts"),
    ],
)
def test_unusable_entities_are_refused(asked, message):
    with pytest.raises(ValueError, match=message):
        store.historical_user_rows(asked)


def test_materialise_refuses_a_moment_without_a_zone():
    with pytest.raises(ValueError, match="time zone"):
        store.materialize(datetime(2024, 1, 1))  # noqa: DTZ001


def test_a_moment_before_all_snapshots_is_refused_and_spares_the_store(data):
    store.materialize(TIMES[-1])
    before = store.online_user_row("u1")
    with pytest.raises(ValueError, match=r"no snapshot at or before 2024-01-15T23.*dvc repro"):
        store.materialize(TIMES[0] - HOUR)
    naive.assert_same(store.online_user_row("u1"), before)


def test_missing_snapshots_are_told(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGUE_DATA", str(tmp_path))
    asked = pd.DataFrame({"user_id": ["u1"], "event_timestamp": [TIMES[0]]})
    with pytest.raises(FileNotFoundError, match="no snapshots at .*dvc repro snapshots"):
        store.historical_user_rows(asked)
    with pytest.raises(FileNotFoundError, match="no snapshots at .*dvc repro snapshots"):
        store.materialize(TIMES[-1])


def test_snapshot_times_are_the_starts_the_steps_between_and_the_end():
    shown = [f"{time:%m-%d %H:%M}" for time in TIMES]
    assert shown == [
        *("01-16 00:00", "01-20 23:30", "01-26 00:00", "01-31 00:00", "02-05 01:00"),
        *("02-10 00:30", "02-15 00:00"),
    ]
    assert all(time.tzinfo == UTC for time in TIMES)
