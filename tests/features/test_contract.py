from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from features.columns import Action, Event, Song, User
from features.contract import TABLES, conform
from features.lake import EVENTS, SONGS, USERS

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
GOOD = {
    Event.ID: "e",
    Event.TS: "2024-05-01T11:00:00Z",
    Event.USER: "u",
    Event.SONG: "s",
    Event.SESSION: "x",
    Event.ACTION: "play",
    Event.PLAYED_MS: "1000",
    Event.POSITION: "0",
    Event.PROPENSITY: "0.5",
}
IDS = (Event.ID, Event.USER, Event.SONG, Event.SESSION)


def _events(*changes: dict[str, Any]) -> tuple[pa.Table, list[str | None]]:
    return _conform(EVENTS, *(GOOD | change for change in changes))


def _conform(table: str, *rows: dict[str, Any]) -> tuple[pa.Table, list[str | None]]:
    typed, reasons = conform(pa.Table.from_pandas(pd.DataFrame(rows)), TABLES[table], NOW)
    return typed, reasons.tolist()


def _column(table: str, name: str, values: pa.Array) -> list[Any]:
    typed, _ = conform(pa.table({name: values}), TABLES[table], NOW)
    result: list[Any] = typed[name].to_pylist()
    return result


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({Event.ID: ""}, "event_id: missing"),
        ({Event.USER: None}, "user_id: missing"),
        ({Event.SONG: "  "}, "song_id: missing"),
        ({Event.SESSION: None}, "session_id: missing"),
        *(({name: "ü" * 257}, f"{name}: too long") for name in IDS),
        *(({name: "a\x00"}, f"{name}: holds NUL") for name in IDS),
        ({Event.TS: None}, "ts: missing"),
        ({Event.TS: "yesterday"}, "ts: unparsable"),
        ({Event.TS: "2024-13-01"}, "ts: unparsable"),
        ({Event.TS: "inf"}, "ts: unparsable"),
        ({Event.TS: "1e30"}, "ts: unparsable"),
        ({Event.TS: "2024-05-01T12:00:00.000001Z"}, "ts: in the future"),
        ({Event.TS: "2999-01-01T00:00:00Z"}, "ts: in the future"),
        ({Event.TS: "9999-12-31"}, "ts: in the future"),
        ({Event.TS: "9999-12-31T23:59:59-01:00"}, "ts: unparsable"),
        ({Event.TS: "9999999999"}, "ts: in the future"),
        ({Event.TS: "1999-12-31T23:59:59Z"}, "ts: before 2000"),
        ({Event.TS: "-5"}, "ts: before 2000"),
        ({Event.RECEIVED: "soon"}, "received_ts: unparsable"),
        ({Event.RECEIVED: "2024-05-01T12:00:00.000001Z"}, "received_ts: in the future"),
        ({Event.RECEIVED: "1999-12-31T23:59:59Z"}, "received_ts: before 2000"),
        ({Event.ACTION: "plays"}, "action: unknown"),
        ({Event.ACTION: ""}, "action: missing"),
        ({Event.PLAYED_MS: "-1"}, "played_ms: negative"),
        ({Event.PLAYED_MS: "long"}, "played_ms: unparsable"),
        ({Event.POSITION: "-1"}, "position: negative"),
        ({Event.PROPENSITY: "0"}, "propensity: out of range"),
        ({Event.PROPENSITY: "1.01"}, "propensity: out of range"),
    ],
)
def test_each_broken_rule_is_named_and_spares_its_neighbours(
    change: dict[str, Any], reason: str
) -> None:
    _, reasons = _events({}, change, {})
    assert reasons == [None, reason, None]


@pytest.mark.parametrize(
    "change",
    [
        {Event.TS: "2024-05-01T12:00:00Z"},
        {Event.TS: "2000-01-01"},
        {Event.RECEIVED: None},
        {Event.RECEIVED: "2024-05-01T12:00:00Z"},
        {Event.RECEIVED: "2000-01-01"},
        *({name: "ü" * 256} for name in IDS),
        *({name: "a\nb"} for name in IDS),
        {Event.PLAYED_MS: None},
        {Event.PLAYED_MS: "0"},
        {Event.PROPENSITY: "1"},
        *({Event.ACTION: action} for action in Action.ALL),
    ],
)
def test_what_is_just_allowed_stays(change: dict[str, Any]) -> None:
    assert _events(change)[1] == [None]


def test_a_row_with_many_faults_has_one_reason() -> None:
    _, reasons = _events({Event.USER: "", Event.ACTION: "x"}, {Event.TS: "?", Event.USER: ""})
    assert reasons == ["user_id: missing", "ts: unparsable"]


def test_needed_columns_are_missed_and_others_become_null() -> None:
    typed, reasons = _conform(EVENTS, {Event.ID: "e", Event.TS: "2024-01-01", Event.ACTION: "like"})
    assert reasons == ["user_id: missing"]
    assert typed.schema.equals(TABLES[EVENTS].schema)
    assert typed[Event.MOOD].to_pylist() == [None]


def test_a_session_is_needed_only_where_the_source_has_sessions() -> None:
    without = {name: value for name, value in GOOD.items() if name != Event.SESSION}
    typed, reasons = _conform(EVENTS, without)
    assert reasons == [None]
    assert typed[Event.SESSION].to_pylist() == [None]


def test_users_and_songs_have_rules_too() -> None:
    _, users = _conform(
        USERS,
        {User.ID: "a", User.BIRTH_YEAR: 1990, User.UTC_OFFSET: 330},
        {User.ID: None},
        {User.ID: "b", User.BIRTH_YEAR: 2025},
        {User.ID: "c", User.UTC_OFFSET: 900},
    )
    assert users == [
        None,
        "user_id: missing",
        "birth_year: out of range",
        "utc_offset_minutes: out of range",
    ]
    _, songs = _conform(SONGS, {Song.ID: "a"}, {Song.ID: "b", Song.DURATION_MS: 0})
    assert songs == [None, "duration_ms: not positive"]
    values = (0, -1e6, 1e6, 1.1e6, -1.797e308, -1.1e6)
    told = _conform(SONGS, *({Song.ID: f"{v}", Song.TEMPO: v} for v in map(str, values)))[1]
    assert told == [None] * 3 + ["tempo: out of range"] * 3
    assert _conform(USERS, {User.ID: "a" * 257})[1] == ["user_id: too long"]
    assert _conform(SONGS, {Song.ID: "a" * 257})[1] == ["song_id: too long"]


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
def test_unix_times_of_every_unit_mean_the_same(unit: int) -> None:
    moment = datetime(2014, 7, 4, 11, 31, 25, tzinfo=UTC)
    number = int(moment.timestamp()) * unit
    assert _column(EVENTS, Event.TS, pa.array([number])) == [moment]
    assert _column(EVENTS, Event.TS, pa.array([str(number), "nothing"])) == [moment, None]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-02-29T01:02:03.000004+05:30", datetime(2024, 2, 28, 19, 32, 3, 4, tzinfo=UTC)),
        ("2024-02-29 01:02:03", datetime(2024, 2, 29, 1, 2, 3, tzinfo=UTC)),
        (" 2024-02-29 ", datetime(2024, 2, 29, tzinfo=UTC)),
        ("1709168523.5", datetime(2024, 2, 29, 1, 2, 3, 500_000, tzinfo=UTC)),
    ],
)
def test_times_in_texts(text: str, moment: datetime) -> None:
    assert _column(EVENTS, Event.TS, pa.array([text])) == [moment]


def test_typed_times_keep_their_moment() -> None:
    moment = datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=UTC)
    naive = pa.array([moment.replace(tzinfo=None)], pa.timestamp("us"))
    local = pa.array([moment + timedelta(microseconds=0)], pa.timestamp("ns", "Asia/Kolkata"))
    assert _column(EVENTS, Event.TS, naive) == [moment]
    assert _column(EVENTS, Event.TS, local) == [moment]
    assert _column(EVENTS, Event.TS, pa.array([date(2024, 2, 29)])) == [
        datetime(2024, 2, 29, tzinfo=UTC)
    ]


@pytest.mark.parametrize(
    ("raw", "texts"),
    [
        (pa.array([12, None]), ["12", None]),
        (pa.array([12.0, None]), ["12", None]),
        (pa.array([12.0, np.nan]), ["12", None]),
        (pa.array([12.5]), ["12.5"]),
        (pa.array([" a ", "", "ü"]), ["a", None, "ü"]),
        (pa.array(["a"], pa.large_string()), ["a"]),
    ],
)
def test_ids_of_any_type_become_texts(raw: pa.Array, texts: list[str | None]) -> None:
    assert _column(EVENTS, Event.USER, raw) == texts


def test_numbers_are_exact_whatever_stands_beside_them() -> None:
    text = "0.33908862340372465"
    alone = _column(EVENTS, Event.PROPENSITY, pa.array([text]))
    beside = _column(EVENTS, Event.PROPENSITY, pa.array([text, "x"]))
    assert alone == [float(text)]
    assert beside == [float(text), None]
    assert _column(EVENTS, Event.PLAYED_MS, pa.array(["1234.6", "1e400"])) == [1235, None]


@pytest.mark.parametrize("nan", ["nan", "NaN", " NAN "])
def test_nan_in_a_text_is_an_absent_number_and_a_name(nan: str) -> None:
    texts = dict.fromkeys((Song.ID, Song.BAND, Song.ARTISTS), nan)
    numbers = dict.fromkeys((Song.DURATION_MS, Song.TEMPO), nan)
    song = {Song.ID: "s", Song.DURATION_MS: "1", Song.TEMPO: "2.5"}
    typed, reasons = _conform(SONGS, texts | numbers, song)
    assert reasons == [None, None]
    assert typed[Song.DURATION_MS].to_pylist() == [None, 1]
    assert typed[Song.TEMPO].to_pylist() == [None, 2.5]
    assert typed[Song.BAND].to_pylist() == [nan.strip(), None]
    assert typed[Song.ARTISTS].to_pylist() == [[nan.strip()], None]


def test_nan_is_no_time() -> None:
    assert _events({Event.TS: "NaN"})[1] == ["ts: unparsable"]


def test_lists_come_from_lists_and_from_texts() -> None:
    texts = pa.array(["pop| rock ||folk|", "pop", "", None])
    lists = [["pop", "rock", "folk"], ["pop"], None, None]
    assert _column(SONGS, Song.GENRES, texts) == lists
    assert _column(SONGS, Song.GENRES, pa.array([["pop"], [], None])) == [["pop"], [], None]


def test_a_type_that_cannot_mean_it_is_unparsable() -> None:
    rows = pa.table({Event.ID: ["e"], Event.TS: pa.array([{"year": 2024}])})
    _, reasons = conform(rows, TABLES[EVENTS], NOW)
    assert reasons.tolist() == ["ts: unparsable"]


def test_no_rows_are_fine() -> None:
    typed, reasons = conform(pa.table({}), TABLES[EVENTS], NOW)
    assert typed.num_rows == 0
    assert isinstance(reasons, pd.Series)
    assert reasons.empty


def test_only_dates_of_songs_are_read_as_years_and_days():
    values = pa.array(["2019", "20190501"])
    dates = [datetime(2019, 1, 1, tzinfo=UTC), datetime(2019, 5, 1, tzinfo=UTC)]
    assert _column(SONGS, Song.RELEASED_TS, values) == dates
    seconds = [datetime.fromtimestamp(second, UTC) for second in (2019, 20190501)]
    assert _column(USERS, User.SIGNUP_TS, values) == seconds
