from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from features.ingest import DOUBTS, ingest
from features.sources.files import Files

NOW = datetime(2024, 6, 1, tzinfo=UTC)
EVENTS = "ts,user_id,song_id,session_id,played_ms"


def _doubts(folder: Path, **tables: str) -> list[str]:
    raw = folder / "raw"
    raw.mkdir()
    for name, text in tables.items():
        (raw / f"{name}.csv").write_text(text.replace(" ", "\n"), encoding="utf-8")
    return list(ingest(Files(raw), folder / "lake", 0.0, NOW).get(DOUBTS, ()))


def test_an_ordinary_import_leaves_none(tmp_path: Path) -> None:
    events = f"{EVENTS} 2024-01-01,nullsoft,nano,x,1000 2024-01-02,7,1,y, 2024-01-03,7,1,y,0"
    assert _doubts(tmp_path, events=events, songs="song_id,duration_ms 1,200000 9,") == []


@pytest.mark.parametrize("word", ["NULL", "None", "nan", "<NA>", r"\N"])
@pytest.mark.parametrize("column", ["user_id", "song_id", "session_id"])
def test_ids_that_spell_none_are_told(tmp_path: Path, column: str, word: str) -> None:
    rows = [
        ",".join({"user_id": "u", "song_id": "s", "session_id": "x", column: word}.values())
        for _ in range(2)
    ]
    events = f"{EVENTS} 2024-01-01T01,{rows[0]}, 2024-01-01T02,{rows[1]}, 2024-01-01T03,u,s,x,"
    (told,) = _doubts(tmp_path, events=events)
    assert told.startswith(f"2 events have the {column} {word!r}")


@pytest.mark.parametrize(("hours", "told"), [(25, "67% of the events are of sessions"), (24, "")])
def test_sessions_that_go_on_for_days_are_told(tmp_path: Path, hours: int, told: str) -> None:
    end = (datetime(2024, 1, 1) + timedelta(hours=hours)).isoformat()  # noqa: DTZ001
    # Another listener's session of the same name is another one.
    rows = f"2024-01-01,u,s,x, {end},u,s,x, 2024-03-01,v,s,x,"
    assert "".join(_doubts(tmp_path, events=f"{EVENTS} {rows}")).startswith(told)


@pytest.mark.parametrize(("time", "told"), [("00:00:00+05:00", True), ("00:00:01", False)])
def test_times_that_name_days_only_are_told(tmp_path: Path, time: str, told: bool) -> None:
    rows = " ".join(f"2024-01-{day:02}T{time},u,s,x{day}," for day in range(1, 11))
    assert [doubt[:31] for doubt in _doubts(tmp_path, events=f"{EVENTS} {rows}")] == (
        ["100% of the events are at full "] * told
    )


def test_milliseconds_that_look_like_seconds_are_told(tmp_path: Path) -> None:
    events = f"{EVENTS} 2024-01-01,u,s,x,0 2024-01-02,u,s,y,120 2024-01-03,u,s,z,240000"
    songs = "song_id,duration_ms s,999 t,"
    played, lasting = _doubts(tmp_path, events=f"{events} 2024-01-04,u,s,a,180", songs=songs)
    assert "events' played_ms are 180 milliseconds or less" in played
    assert "songs' duration_ms are 999 milliseconds" in lasting


def test_years_that_are_none_are_told(tmp_path: Path) -> None:
    events, songs = f"{EVENTS} 2024-01-01,u,1,x,", "song_id,release_year 1,0 2,0 3,99 4,1999 5,"
    (told,) = _doubts(tmp_path, events=events, songs=songs)
    assert told.startswith("3 songs have a release_year such as 0,")


def test_words_that_differ_by_case_only_are_told(tmp_path: Path) -> None:
    songs = "song_id,language,genres 1,EN,Folk|folk 2,en,jazz 3,,jazz"
    events = "ts,user_id,song_id,mood 2024-01-01,u,1,calm 2024-01-02,u,1,calm"
    found = _doubts(tmp_path, events=events, songs=songs, users="user_id,languages u,En|hi")
    assert [doubt.split(":")[0] for doubt in found] == [
        "Some languages differ by case only, such as EN, En, en",
        "Some genres differ by case only, such as Folk, folk",
    ]


@pytest.mark.parametrize(("ids", "told"), [("1.0 2.0", ["songs"]), ("1 2.0", []), ("", [])])
def test_a_catalogue_that_no_event_meets_is_told(tmp_path: Path, ids: str, told: list[str]) -> None:
    found = _doubts(
        tmp_path, events=f"{EVENTS} 2024-01-01,u,1,x,", users="user_id u", songs=f"song_id {ids}"
    )
    assert [doubt.split()[4] for doubt in found] == told
