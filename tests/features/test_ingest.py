import csv
import gzip
import hashlib
import json
import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.columns import Action, Event, Song, User
from features.ingest import SHARED, format_summary, ingest, main
from features.lake import (
    LATE,
    QUARANTINE,
    event_files,
    read_events,
    read_songs,
    read_summary,
    read_users,
)
from features.mistakes import Mistake
from features.paths import PROJECT
from features.sources.files import Files
from features.sources.objects import as_objects
from features.sources.thirty_music import ThirtyMusic

NOW = datetime(2024, 6, 1, tzinfo=UTC)
START = datetime(2024, 5, 1, 23, tzinfo=UTC)
HEADER = ("event_id", "ts", "user_id", "song_id", "session_id", "action", "played_ms")


def _good(number: int) -> list[str]:
    ts = START + timedelta(minutes=number)
    return [f"e{number:04}", ts.isoformat(), f"u{number % 3}", f"s{number % 5}", "x", "play", "9"]


def _changed(number: int, column: str, value: str) -> list[str]:
    row = _good(number)
    row[HEADER.index(column)] = value
    return row


def _write(folder: Path, rows: list[list[str]], name: str = "events.csv") -> Path:
    folder.mkdir(exist_ok=True)
    with (folder / name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([HEADER, *rows])
    return folder


def _ingest(folder: Path, lake: Path, share: float = 0.5) -> dict[str, Any]:
    return ingest(Files(folder), lake, share, NOW)


def _bytes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _assert_sum(table: dict[str, Any]) -> None:
    assert table["rows_in"] == table["kept"] + table["duplicates"] + table["quarantined"]
    assert table["quarantined"] == sum(table["by_reason"].values())


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """Build twenty good rows, three repeated ones, and one or two of each kind of bad row."""
    rows = [_good(number) for number in range(20)]
    bad = [
        _changed(50, "action", "stop"),
        _changed(51, "ts", "2024-06-01T00:00:01Z"),
        _changed(52, "ts", "soon"),
        _changed(53, "played_ms", "-1"),
        _changed(54, "event_id", ""),
        _changed(55, "user_id", ""),
        _changed(56, "user_id", ""),
        _good(57)[:-1],
    ]
    folder = _write(tmp_path / "raw", [*rows[:10], *bad, *rows[10:], rows[3]])
    _write(folder, [rows[4], rows[5]], "events-2.csv")
    with (folder / "events-2.csv").open("ab") as file:
        file.write(b"e,\xff,u,s,x,play,1\n")
    (folder / "events-3.parquet").write_bytes(b"PAR1 broken")
    (folder / "events-4.csv.gz").write_bytes(b"\x1f\x8bbroken")
    return folder


def test_every_planted_fault_is_counted_by_its_reason(planted: Path, tmp_path: Path) -> None:
    summary = _ingest(planted, tmp_path / "lake")
    assert summary["rows_in"] == 20 + 3 + 11
    assert summary["kept"] == 20
    assert summary["duplicates"] == 3
    assert summary["quarantined"] == 11
    assert summary["by_reason"] == {
        "user_id: missing": 2,
        "action: unknown": 1,
        "broken Parquet": 1,
        "broken gzip": 1,
        "event_id: missing": 1,
        "played_ms: negative": 1,
        "ts: in the future": 1,
        "ts: unparsable": 1,
        "wrong encoding": 1,
        "wrong number of fields": 1,
    }
    assert list(summary["by_reason"]) == sorted(
        summary["by_reason"], key=lambda reason: (-summary["by_reason"][reason], reason)
    )
    assert summary == read_summary(tmp_path / "lake")


def test_the_lake_holds_the_good_rows_and_no_others(planted: Path, tmp_path: Path) -> None:
    _ingest(planted, tmp_path / "lake")
    events = read_events(tmp_path / "lake")
    assert events[Event.ID].tolist() == [f"e{number:04}" for number in range(20)]
    assert events[Event.TS].tolist() == [START + timedelta(minutes=n) for n in range(20)]
    assert events[Event.PLAYED_MS].tolist() == [9.0] * 20
    assert events[Event.DEVICE].isna().all()


def test_the_quarantine_says_where_and_what(planted: Path, tmp_path: Path) -> None:
    _ingest(planted, tmp_path / "lake")
    bad = pd.read_parquet(tmp_path / "lake" / QUARANTINE)
    assert len(bad) == 11
    assert set(bad["table"]) == {"events"}
    unknown = bad[bad.reason == "action: unknown"].iloc[0]
    assert Path(unknown.file).name == "events.csv"
    assert unknown.row == 12
    assert json.loads(unknown.raw) == dict(zip(HEADER, _changed(50, "action", "stop"), strict=True))
    undecodable = bad[bad.reason == "wrong encoding"].iloc[0]
    assert (Path(undecodable.file).name, undecodable.row) == ("events-2.csv", 4)
    assert undecodable.raw == r"e,\xff,u,s,x,play,1"
    assert bad[bad.reason == "broken Parquet"].row.isna().all()


def test_events_lie_in_the_folder_of_their_utc_day(planted: Path, tmp_path: Path) -> None:
    rows = [[f"e{n}", ts, "u", "s", "x", "like", ""] for n, ts in enumerate((
        "2024-05-02T00:00:00Z",
        "2024-05-01T23:59:59.999999Z",
        "2024-05-02T01:00:00+05:30",
    ))]  # fmt: skip
    lake = tmp_path / "lake"
    _ingest(_write(tmp_path / "days", rows), lake)
    by_day = {path.parent.name: pq.read_table(path)[Event.ID].to_pylist()
              for _, path in event_files(lake)}  # fmt: skip
    assert by_day == {"date=2024-05-01": ["e2", "e1"], "date=2024-05-02": ["e0"]}


def test_of_events_with_one_id_the_first_read_is_kept(tmp_path: Path) -> None:
    first, second = _good(1), _changed(1, "song_id", "other")
    folder = _write(tmp_path / "raw", [first, second])
    _write(folder, [_changed(1, "song_id", "third")], "events-2.csv")
    summary = _ingest(folder, tmp_path / "lake")
    assert (summary["kept"], summary["duplicates"]) == (1, 2)
    # `events-2.csv` sorts before `events.csv`.
    assert read_events(tmp_path / "lake")[Event.SONG].tolist() == ["third"]


def test_importing_twice_changes_no_byte(planted: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    first = _ingest(planted, lake)
    before = _bytes(lake)
    assert _ingest(planted, lake) == first
    assert _bytes(lake) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lake", "raw"]


def test_a_new_import_leaves_nothing_of_the_old(planted: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    _ingest(planted, lake)
    _ingest(_write(tmp_path / "other", [_good(99)]), lake)
    assert read_events(lake)[Event.ID].tolist() == ["e0099"]
    assert len(event_files(lake)) == 1
    assert pd.read_parquet(lake / QUARANTINE).empty


def test_too_many_bad_rows_stop_the_run_and_spare_the_lake(planted: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    _ingest(_write(tmp_path / "fine", [_good(1)]), lake)
    before = _bytes(lake)
    with pytest.raises(
        ValueError, match=r"11 of 34 rows of events \(32\.4%\).*user_id: missing \(2"
    ):
        _ingest(planted, lake, share=0.3)
    assert _bytes(lake) == before
    refused = pd.read_parquet(tmp_path / "lake-refused" / QUARANTINE)
    assert len(refused) == 11
    _ingest(planted, lake, share=11 / 34)
    assert not (tmp_path / "lake-refused").exists()


@pytest.mark.parametrize(
    ("column", "value", "shown"),
    [
        ("ts", "31 Dec 2023, 23:59", "'31 Dec 2023, 23:59'"),
        ("user_id", " ", "' '"),
        ("song_id", "x" * 1_000, f"'{'x' * 200} …'"),
    ],
)
def test_a_refused_import_shows_a_bad_row(
    tmp_path: Path, column: str, value: str, shown: str
) -> None:
    folder = _write(tmp_path / "raw", [_good(0), *(_changed(n, column, value) for n in (1, 2))])
    place = re.escape(f"is in {folder / 'events.csv'}, row 3: {shown};")
    with pytest.raises(Mistake, match=rf"The first of `{column}: .*` {place}"):
        _ingest(folder, tmp_path / "lake")


def test_bad_songs_stop_the_run_too(tmp_path: Path) -> None:
    folder = _write(tmp_path / "raw", [_good(1)])
    (folder / "songs.csv").write_text("song_id,duration_ms\na,1\nb,-1\n")
    summary = _ingest(folder, tmp_path / "lake", share=0.5)
    assert summary["tables"]["songs"]["by_reason"] == {"duration_ms: not positive": 1}
    with pytest.raises(ValueError, match=r"1 of 2 rows of songs"):
        _ingest(folder, tmp_path / "lake", share=0.4)


def test_a_source_without_a_good_event_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not one good event"):
        _ingest(_write(tmp_path / "raw", []), tmp_path / "lake", share=1.0)
    assert not (tmp_path / "lake").exists()


def test_a_folder_that_is_no_lake_is_not_replaced(tmp_path: Path) -> None:
    folder = _write(tmp_path / "raw", [_good(1)])
    with pytest.raises(ValueError, match="holds something that is no lake"):
        _ingest(folder, folder)
    assert (folder / "events.csv").exists()


def test_sessions_are_derived_where_the_source_has_none(tmp_path: Path) -> None:
    minutes = [("u", 0), ("v", 10), ("u", 30), ("u", 60), ("u", 91), ("v", 50), ("u", 92)]
    moments = [(user, START + timedelta(minutes=minute)) for user, minute in minutes]
    lines = [f"{user},{ts.isoformat()},s" for user, ts in moments]
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "events.csv").write_text("\n".join(["user_id,ts,song_id", *lines]))
    summary = _ingest(tmp_path / "raw", tmp_path / "lake")
    assert summary["sessions"] == 4
    events = read_events(tmp_path / "lake")
    for _, of_user in events.groupby(Event.USER):
        rows = zip(of_user[Event.TS], of_user[Event.SESSION], strict=True)
        for (before, session), (after, next_session) in pairwise(rows):
            assert (session == next_session) == (after - before <= timedelta(minutes=30))
    assert events[Event.ACTION].unique().tolist() == ["play"]
    assert not set(events[events[Event.USER] == "u"][Event.SESSION]) & set(
        events[events[Event.USER] == "v"][Event.SESSION]
    )


def test_events_of_one_moment_stay_in_their_order(tmp_path: Path) -> None:
    minutes = [(START + timedelta(minutes=n)).strftime("%Y-%m-%d %H:%M") for n in range(50)]
    lines = [f"u,{minute},{song}" for minute in minutes for song in ("b", "c", "a")]
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "events.csv").write_text("\n".join(["user_id,ts,song_id", *lines]))
    _ingest(tmp_path / "raw", tmp_path / "lake")
    assert read_events(tmp_path / "lake")[Event.SONG].tolist() == ["b", "c", "a"] * 50


def test_session_ids_that_each_listener_counts_alone_are_told_apart(tmp_path: Path) -> None:
    rows = [_changed(number, Event.SESSION, name) for number, name in enumerate("11121")]
    # Listeners are u0, u1, u2, u0, u1: id 1 is of three, id 2 of one.
    summary = _ingest(_write(tmp_path / "raw", rows), tmp_path / "lake")
    found = read_events(tmp_path / "lake")[Event.SESSION].tolist()
    assert found == ["u0/1", "u1/1", "u2/1", "2", "u1/1"]
    assert summary["sessions"] == 4
    assert summary[SHARED] == 1
    assert SHARED in format_summary(summary)


def test_sessions_of_one_listener_keep_their_ids(tmp_path: Path) -> None:
    rows = [_changed(number, Event.SESSION, f"x{number % 3}") for number in range(6)]
    summary = _ingest(_write(tmp_path / "raw", rows), tmp_path / "lake")
    assert sorted(set(read_events(tmp_path / "lake")[Event.SESSION])) == ["x0", "x1", "x2"]
    assert SHARED not in summary


def test_an_event_that_is_sent_again_is_the_same_whenever_it_arrives(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    lines = [
        "ts,user_id,song_id,received_ts",
        "2024-05-01,u,a,2024-05-01T00:00:01Z",
        "2024-05-01,u,a,2024-05-09",
        "2024-05-01,u,b,",
        "2024-05-02,u,b,2024-05-03T00:00:00.000001Z",
        "2024-05-02,u,c,2024-05-03",
        "2024-05-02,u,d,2024-07-01",
    ]
    (tmp_path / "raw" / "events.csv").write_text("\n".join(lines))
    summary = _ingest(tmp_path / "raw", tmp_path / "lake")
    assert (summary["kept"], summary["duplicates"]) == (4, 1)
    assert summary["by_reason"] == {"received_ts: in the future": 1}
    events = read_events(tmp_path / "lake").set_index([Event.SONG, Event.TS])[Event.RECEIVED]
    assert events["a"].tolist() == [pd.Timestamp("2024-05-01T00:00:01Z")]
    assert events["b"].isna().tolist() == [True, False]
    assert summary[LATE] == 1
    assert LATE in format_summary(summary)


def test_every_id_of_an_event_has_its_row(tmp_path: Path) -> None:
    folder = _write(tmp_path / "raw", [_good(number) for number in range(5)])
    (folder / "songs.csv").write_text("song_id,title,genres\ns9,Nine,a|b\ns1,One,\ns1,Again,\n")
    summary = _ingest(folder, tmp_path / "lake")
    songs = read_songs(tmp_path / "lake").set_index(Song.ID)
    assert songs.index.tolist() == ["s0", "s1", "s2", "s3", "s4", "s9"]
    assert songs[Song.TITLE].to_dict() == {
        "s0": None, "s1": "One", "s2": None, "s3": None, "s4": None, "s9": "Nine"
    }  # fmt: skip
    assert songs[Song.GENRES]["s9"].tolist() == ["a", "b"]
    users = read_users(tmp_path / "lake")
    assert users[User.ID].tolist() == ["u0", "u1", "u2"]
    assert users.drop(columns=User.ID).isna().all(axis=None)
    assert (summary["users"], summary["songs"]) == (3, 6)
    assert summary["tables"]["songs"]["duplicates"] == 1


def test_the_summary_counts_signals_and_spans(tmp_path: Path) -> None:
    rows = [_good(1), _changed(2, "action", "like"), _changed(3, "session_id", "y")]
    summary = _ingest(_write(tmp_path / "raw", rows), tmp_path / "lake")
    assert summary["signals"] == dict.fromkeys(Action.ALL, 0) | {"play": 2, "like": 1}
    # The id `x` is of two listeners.
    assert summary["sessions"] == 3
    assert summary["first_ts"] == "2024-05-01T23:01:00+00:00"
    assert summary["last_ts"] == "2024-05-01T23:03:00+00:00"


@pytest.mark.parametrize(("ids", "told"), [(["s0.0", "s1.0"], True), (["s0", "s1.0"], False)])
def test_a_catalogue_that_spells_its_ids_otherwise_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ids: list[str], told: bool
) -> None:
    folder = _write(tmp_path / "raw", [_good(0), _good(1)])
    (folder / "songs.csv").write_text("\n".join(["song_id", *ids]))
    main(["--source", "files", "--path", str(folder), "--lake", str(tmp_path / "lake")])
    out = capsys.readouterr().out
    assert ("Not one of the songs" in out) == told
    assert "Not one of the users" not in out
    assert re.search(r"^  in events only +(\d+)$", out, re.MULTILINE)[1] == "21"[not told]


def test_30music_goes_through_with_absent_things_absent(tmp_path: Path) -> None:
    plays = ["1,7,1400000000,11,200", "1,7,1400000200,11,99", "2,8,1400000400,11,240"]
    content = "\n".join(["session_id,user_id,ts,song_id,seconds_played", *plays, "", plays[0]])
    (tmp_path / "plays.csv").write_text(content)
    summary = ingest(ThirtyMusic(tmp_path), tmp_path / "lake", 0.0, NOW)
    assert (summary["kept"], summary["duplicates"]) == (3, 1)
    assert {name for name, count in summary["signals"].items() if count} == {"play", "skip"}
    events = read_events(tmp_path / "lake")
    assert events[Event.ACTION].tolist() == ["play", "skip", "play"]
    assert events[Event.TS][0] == datetime(2014, 5, 13, 16, 53, 20, tzinfo=UTC)
    assert events[Event.PLAYED_MS].tolist() == [200_000, 99_000, 240_000]
    songs = read_songs(tmp_path / "lake")
    assert songs[Song.DURATION_MS].tolist() == [200_000]
    assert songs.drop(columns=[Song.ID, Song.DURATION_MS]).isna().all(axis=None)


_FIELD = st.sampled_from(["", "a", "b", "1714600000", "9e99", "play", "like", "-1", '"', "ü,"])
_LINES = st.lists(st.lists(_FIELD, min_size=6, max_size=8).map(",".join), max_size=20)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(lines=_LINES, tail=st.binary(max_size=20))
def test_the_counts_add_up_whatever_comes(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], tail: bytes
) -> None:
    folder = tmp_path_factory.mktemp("raw")
    content = "\n".join([",".join(HEADER), ",".join(_good(0)), *lines, ""]).encode() + tail
    (folder / "events.csv").write_bytes(content)
    lake = tmp_path_factory.mktemp("out") / "lake"
    summary = _ingest(folder, lake, share=1.0)
    _assert_sum(summary)
    assert summary["kept"] == len(read_events(lake))
    assert summary["quarantined"] == pq.read_table(lake / QUARANTINE).num_rows
    if not any('"' in line for line in lines) and b'"' not in tail:
        in_file = [line for line in content.split(b"\n")[1:] if line.strip(b"\r")]
        assert summary["rows_in"] == len(in_file)


def test_the_command_prints_an_aligned_table(
    planted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--source", "files", "--path", str(planted), "--lake", str(tmp_path / "lake")]
    params = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    lenient = tmp_path / "params.yaml"
    lenient.write_text(yaml.safe_dump(params | {"ingest": {"max_bad_share": 0.9}}))
    main([*arguments, "--params", str(lenient), "--now", "2024-06-01"])
    out = capsys.readouterr().out
    assert out.startswith(format_summary(read_summary(tmp_path / "lake")))
    table = out.partition("wrote")[0].splitlines()
    assert len({len(line) for line in table}) == 1
    assert any(line.split() == ["user_id:", "missing", "2"] for line in table)


def test_the_command_fails_honestly(
    planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGUE_DATA", str(tmp_path / "data"))
    arguments = ["--source", "files", "--path", str(planted), "--lake", str(tmp_path / "lake")]
    strict = tmp_path / "params.yaml"
    params = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    strict.write_text(yaml.safe_dump(params | {"ingest": {"max_bad_share": 0.1}}))
    with pytest.raises(Mistake, match="rows of events"):
        main([*arguments, "--params", str(strict), "--now", "2024-06-01"])
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        main(["--source", "files", "--path", str(tmp_path / "x")])


def test_rights_of_songs_are_kept(tmp_path: Path) -> None:
    folder = _write(tmp_path / "raw", [_good(0), _good(1)])
    songs = "song_id,clean,where\ns0,no,Europe|Asia\ns1,yes,\ns2,,\n"
    (folder / "songs.csv").write_text(songs, encoding="utf-8")
    columns = {"songs": {Song.EXPLICIT: "clean", Song.REGIONS_AVAILABLE: "where"}}
    ingest(Files(folder, columns), tmp_path / "lake", 0.5, NOW)
    kept = read_songs(tmp_path / "lake").set_index(Song.ID)
    assert [*kept[Song.EXPLICIT].isin([True])] == [False, True, False]
    assert [*kept[Song.EXPLICIT].isna()] == [False, False, True]
    assert list(kept.loc["s0", Song.REGIONS_AVAILABLE]) == ["Europe", "Asia"]
    assert kept.loc["s1", Song.REGIONS_AVAILABLE] is None


def test_a_time_beyond_the_years_of_python_is_quarantined(tmp_path: Path) -> None:
    moments = pa.array([1_714_500_000, 1_714_500_000_000], pa.timestamp("s"))
    rows = pa.table({"ts": moments, "user_id": ["u", "u"], "song_id": ["s", "s"]})
    (tmp_path / "raw").mkdir()
    pq.write_table(rows, tmp_path / "raw" / "events.parquet")
    summary = ingest(Files(tmp_path / "raw"), tmp_path / "lake", 0.5, NOW)
    assert (summary["kept"], summary["by_reason"]) == (1, {"ts: unparsable": 1})
    (bad,) = pq.read_table(tmp_path / "lake" / "quarantine").to_pylist()
    assert "out of range" in bad["raw"]


def test_a_cut_off_file_is_not_one_bad_row_among_many(tmp_path: Path) -> None:
    """It held three quarters of the events; what it held is weighed by its size."""
    events = pd.DataFrame(
        {"ts": range(1_700_000_000, 1_700_004_000), "user_id": "u", "song_id": "s"}
    )
    folder = tmp_path / "events"
    folder.mkdir()
    events[:1000].to_parquet(folder / "a.parquet")
    events[1000:].to_parquet(folder / "b.parquet")
    assert ingest(Files(tmp_path), tmp_path / "lake", 0.05, NOW)["kept"] == 4000
    whole = (folder / "b.parquet").read_bytes()
    (folder / "b.parquet").write_bytes(whole[: len(whole) * 2 // 3])
    told = r"bytes of events .* cannot be read, or .*more than ingest.max_bad_share = 5.0%.*b\.parq"
    with pytest.raises(Mistake, match=told):
        ingest(Files(tmp_path), tmp_path / "lake", 0.05, NOW)
    assert read_summary(tmp_path / "lake")["kept"] == 4000
    assert ingest(Files(tmp_path), tmp_path / "lake", 0.9, NOW)["kept"] == 1000


@pytest.mark.parametrize("damage", ["inside", "between", "cut off"])
def test_a_damaged_gzip_is_not_one_bad_row_among_many(tmp_path: Path, damage: str) -> None:
    rng = np.random.default_rng(1)
    lines = [f"{1_700_000_000 + n},u{n % 7},s{rng.integers(10**9)}" for n in range(20_000)]
    halves = ("ts,user_id,song_id\n" + "\n".join(lines[:10_000]) + "\n", "\n".join(lines[10_000:]))
    first, second = (gzip.compress(half.encode()) for half in halves)
    path = tmp_path / "events.csv.gz"
    path.write_bytes(first + second)
    assert ingest(Files(tmp_path), tmp_path / "lake", 0.05, NOW)["kept"] == 20_000
    whole = bytearray(path.read_bytes())
    whole[5_000:5_040] = bytes(40)
    bad = {"inside": bytes(whole), "between": first + b"!" * 9 + second, "cut off": first[:-9_000]}
    path.write_bytes(bad[damage])
    with pytest.raises(Mistake, match=r"are of files that were cut off.*events\.csv\.gz"):
        ingest(Files(tmp_path), tmp_path / "lake", 0.05, NOW)
    assert read_summary(tmp_path / "lake")["kept"] == 20_000


def test_small_damaged_files_weigh_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "events").mkdir()
    for number in range(20):
        rows = [f"{1_700_000_000 + n},u{n % 7},s{number}" for n in range(500)]
        content = gzip.compress("\n".join(["ts,user_id,song_id", *rows]).encode())
        damaged = content[:300] + bytes(40) + content[340:]
        path = tmp_path / "events" / f"{number}.csv.gz"
        path.write_bytes(damaged if number % 3 == 0 else content)
    with pytest.raises(Mistake, match=r"3\d\.\d%\) cannot be read"):
        ingest(Files(tmp_path), tmp_path / "lake", 0.2, NOW)
    assert ingest(Files(tmp_path), tmp_path / "lake", 0.5, NOW)["kept"] >= 13 * 500


def test_a_column_may_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    lines = ["ts,user_id,song_id,received_ts,mood", "2024-05-01,u,a,0,calm"]
    (tmp_path / "raw" / "events.csv").write_text("\n".join(lines))
    source = Files(tmp_path / "raw", {"events": {Event.RECEIVED: None, Event.MOOD: None}})
    assert ingest(source, tmp_path / "lake", 0, NOW)["kept"] == 1
    events = read_events(tmp_path / "lake")
    assert events[[Event.RECEIVED, Event.MOOD]].isna().all(axis=None)
    with pytest.raises(Mistake, match="lacks the columns"):
        ingest(Files(tmp_path / "raw", {"events": {Event.SONG: None}}), tmp_path / "lake", 0, NOW)


def test_the_end_of_the_data_is_when_the_last_event_arrived(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    lines = ["ts,user_id,song_id,received_ts", "2024-05-01,u,a,2024-05-03", "2024-05-02,u,a,"]
    (tmp_path / "raw" / "events.csv").write_text("\n".join(lines))
    summary = _ingest(tmp_path / "raw", tmp_path / "lake")
    assert summary["last_ts"] == "2024-05-02T00:00:00+00:00"
    assert summary["last_known_ts"] == "2024-05-03T00:00:00+00:00"


@pytest.mark.parametrize("kind", ["fixed", "map", "struct"])
def test_what_cannot_be_shown_is_shown_by_its_kind(kind: str) -> None:
    bad = pa.array([b"\xff", b"b"]).view(pa.string())
    moments = pa.array([1, 2], pa.timestamp("us", "Mars/Phobos"))
    column = {
        "fixed": lambda: pa.FixedSizeListArray.from_arrays(bad, 1),
        "map": lambda: pa.MapArray.from_arrays(pa.array([0, 1, 2], pa.int32()), bad, bad),
        "struct": lambda: pa.StructArray.from_arrays([moments], ["at"]),
    }[kind]()
    (first, second) = as_objects(pa.table({"odd": column, "id": ["a", "b"]}))
    assert (first["id"], second["id"]) == ("a", "b")
    assert str(first["odd"]).startswith("<")


def test_a_bad_row_may_hold_what_python_cannot(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    moments = pa.array([1_714_521_600_000_000] * 3, pa.timestamp("us", "Mars/Phobos"))
    texts = pa.array([b"a", b"b", b"\xff"]).view(pa.string())
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), texts)
    columns = {
        "ts": moments,
        "user_id": ["u", "u", "u"],
        "song_id": pa.array(["a", None, "c"]),
        "mood": texts,
        "unwanted": lists,
        "seen": moments,
    }
    pq.write_table(pa.table(columns), tmp_path / "raw" / "events.parquet")
    summary = _ingest(tmp_path / "raw", tmp_path / "lake", 0.9)
    assert summary["kept"] == 1
    assert summary["by_reason"] == {"song_id: missing": 1, "wrong encoding": 1}
    bad = pd.read_parquet(tmp_path / "lake" / QUARANTINE).set_index("reason").raw
    assert "2024-05-01" in bad["song_id: missing"]
    assert "2024-05-01" in bad["wrong encoding"]
    assert r"\xff" in bad["wrong encoding"]


@pytest.mark.parametrize("before", [False, True])
def test_a_lake_that_cannot_be_moved_into_place_says_why(
    planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    lake = tmp_path / "lake"
    if before:
        ingest(Files(planted), lake, 0.9, NOW)
    rename = Path.rename

    def refused(path: Path, target: Path) -> Path:
        if Path(target) == lake and path.name == "new":
            raise OSError(18, "Invalid cross-device link")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(OSError, match="cross-device"):
        ingest(Files(planted), lake, 0.9, NOW)
    assert lake.exists() == before


def test_what_a_killed_import_left_is_taken_away(planted: Path, tmp_path: Path) -> None:
    left = tmp_path / ".lake.part" / "new"
    left.mkdir(parents=True)
    (left / "events.parquet").write_bytes(b"half")
    ingest(Files(planted), tmp_path / "lake", 0.9, NOW)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".lake")]


def test_the_lake_of_an_import_killed_in_the_swap_comes_back(planted: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    before = ingest(Files(planted), lake, 0.9, NOW)
    left = tmp_path / ".lake.part"
    left.mkdir()
    lake.rename(left / "old")
    with pytest.raises(FileNotFoundError):
        ingest(Files(tmp_path / "nowhere"), lake, 0.9, NOW)
    with pytest.raises(Mistake):
        ingest(Files(planted), lake, 0.0, NOW)
    assert read_summary(lake) == before


def test_what_a_killed_import_of_another_lake_left_stays(planted: Path, tmp_path: Path) -> None:
    other = tmp_path / "lake-2"
    before = ingest(Files(planted), other, 0.9, NOW)
    left = tmp_path / ".lake-2.part"
    left.mkdir()
    other.rename(left / "old")
    ingest(Files(planted), tmp_path / "lake", 0.9, NOW)
    with pytest.raises(Mistake):
        ingest(Files(planted), other, 0.0, NOW)
    assert read_summary(other) == before


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "Mars/Phobos"])
def test_moments_of_parquet_are_the_same_in_any_zone_known_or_not(
    tmp_path: Path, zone: str
) -> None:
    moments = pa.array([START + timedelta(minutes=number) for number in range(20)])
    for name, there in (("utc", "UTC"), ("zoned", zone)):
        folder = tmp_path / name
        folder.mkdir()
        ts = moments.cast(pa.timestamp("us", there))
        events = pa.table({"ts": ts, "user_id": ["u"] * 20, "song_id": ["s"] * 20})
        pq.write_table(events, folder / "events.parquet")
        assert _ingest(folder, tmp_path / f"lake of {name}")["kept"] == 20
    expected, found = (read_events(tmp_path / f"lake of {name}") for name in ("utc", "zoned"))
    # Their ids, which are made of the rows, too.
    pd.testing.assert_frame_equal(found, expected)
