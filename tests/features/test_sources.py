import gzip
import io
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.columns import Event, Song
from features.mistakes import Mistake
from features.sources import SOURCES, open_source
from features.sources import reading as reading_module
from features.sources.batch import Batch, Fault
from features.sources.files import Files
from features.sources.reading import (
    BROKEN_GZIP,
    BROKEN_PARQUET,
    BROKEN_QUOTES,
    EMPTY_FILE,
    WRONG_ENCODING,
    WRONG_FIELDS,
    read_table,
)
from features.sources.thirty_music import ThirtyMusic


def _rows(batches: Iterable[Batch]) -> list[dict[str, object]]:
    return [row for batch in batches for row in batch.rows.to_pylist()]


def _read(path: Path) -> tuple[list[tuple[int, dict[str, object]]], list[Fault]]:
    batches = list(read_table(path))
    rows = [
        pair
        for batch in batches
        for pair in zip(batch.numbers.to_pylist(), batch.rows.to_pylist(), strict=True)
    ]
    return rows, [fault for batch in batches for fault in batch.faults]


def _csv(folder: Path, content: bytes, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


# CSV


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_a_csv_is_read_with_line_numbers(tmp_path: Path, name: str) -> None:
    content = b'\xef\xbb\xbfa, b\r\n1,x\r\n\r\n2,"y, ""z"""\n3,\xc3\xbc'
    rows, faults = _read(_csv(tmp_path, content, name))
    assert rows == [
        (2, {"a": "1", "b": "x"}),
        (4, {"a": "2", "b": 'y, "z"'}),
        (5, {"a": "3", "b": "ü"}),
    ]
    assert faults == []


def test_batches_are_bounded_and_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_module, "BATCH_ROWS", 10)
    path = _csv(tmp_path, b"a\n" + b"".join(b"%d\n" % i for i in range(25)))
    batches = list(read_table(path))
    assert [batch.rows.num_rows for batch in batches] == [10, 10, 5]
    assert [row["a"] for row in _rows(batches)] == [str(i) for i in range(25)]
    assert sum(batch.size for batch in batches) == path.stat().st_size


def test_lines_with_a_wrong_number_of_fields_are_faults(tmp_path: Path) -> None:
    path = _csv(tmp_path, b"a,b\n1\n1,2\n1,2,3\n")
    rows, faults = _read(path)
    assert rows == [(3, {"a": "1", "b": "2"})]
    assert faults == [
        Fault(str(path), 2, WRONG_FIELDS, "1"),
        Fault(str(path), 4, WRONG_FIELDS, "1,2,3"),
    ]


def test_lines_that_are_not_utf8_are_faults_with_their_bytes_shown(tmp_path: Path) -> None:
    path = _csv(tmp_path, "a,b\n1,ok\n2,é\n3,ok\n".encode("latin-1"))
    rows, faults = _read(path)
    assert [number for number, _ in rows] == [2, 4]
    assert faults == [Fault(str(path), 3, WRONG_ENCODING, r"2,\xe9")]


def test_a_quoted_text_may_run_over_lines(tmp_path: Path) -> None:
    rows, faults = _read(_csv(tmp_path, b'a,b\n1,"x\ny"\n2,z\n'))
    assert rows == [(2, {"a": "1", "b": "x\ny"}), (4, {"a": "2", "b": "z"})]
    assert faults == []


@pytest.mark.parametrize(
    "text", ["a\n\nb", "\n\n".join("abcdefghijklmno"), "a\r\nb", "\n\r\n", "a\r", "\r"]
)
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_line_breaks_within_a_text_stay_as_they_are(tmp_path: Path, text: str, ending: str) -> None:
    content = ending.join(["a,b", "", f'1,"{text}"', "", "2,x", ""]).encode()
    rows, faults = _read(_csv(tmp_path, content))
    assert [row for _, row in rows] == [{"a": "1", "b": text}, {"a": "2", "b": "x"}]
    assert faults == []


@pytest.mark.parametrize("lines_after", [1, 5, 100])
def test_a_stray_quote_costs_its_own_line_only(tmp_path: Path, lines_after: int) -> None:
    after = b"".join(b"%d,y\n" % i for i in range(lines_after))
    path = _csv(tmp_path, b'a,b\n1,"x\n' + after)
    rows, faults = _read(path)
    assert [row["a"] for _, row in rows] == [str(i) for i in range(lines_after)]
    assert faults == [Fault(str(path), 2, BROKEN_QUOTES, '1,"x')]


def test_a_quote_within_a_plain_field_is_a_character(tmp_path: Path) -> None:
    rows, faults = _read(_csv(tmp_path, b'a,b\n1,12" mix\n2,7" mix\n'))
    assert [row["b"] for _, row in rows] == ['12" mix', '7" mix']
    assert faults == []


def test_two_stray_quotes_cost_two_lines(tmp_path: Path) -> None:
    path = _csv(tmp_path, b'a,b\n1,"x\n2,y\n3,"z\n4,w\n')
    rows, faults = _read(path)
    assert [number for number, _ in rows] == [3, 5]
    assert [fault.row for fault in faults] == [2, 4]


def test_rows_before_a_gzip_breaks_off_are_kept(tmp_path: Path) -> None:
    lines = [b"%d,%d" % (i, i * i * 7919 % 10_007) for i in range(5_000)]
    path = _csv(tmp_path, b"\n".join([b"a,b", *lines]), "t.csv.gz")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    rows, faults = _read(path)
    assert [f"{row['a']},{row['b']}".encode() for _, row in rows] == lines[: len(rows)]
    assert 1_000 < len(rows) < 4_000
    assert [(fault.row, fault.reason) for fault in faults] == [(len(rows) + 2, BROKEN_GZIP)]
    assert lines[len(rows)].decode().startswith(faults[0].raw.split()[-1])


def test_a_wrong_checksum_is_seen_although_all_rows_came(tmp_path: Path) -> None:
    path = _csv(tmp_path, b"a\n1\n2\n", "t.csv.gz")
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(bytes(content))
    rows, faults = _read(path)
    assert [row["a"] for _, row in rows] == ["1", "2"]
    assert [fault.reason for fault in faults] == [BROKEN_GZIP]


def test_what_was_packed_or_unpacked_without_another_name_is_read(tmp_path: Path) -> None:
    unpacked, packed = tmp_path / "t.csv.gz", tmp_path / "t.csv"
    unpacked.write_bytes(b"a,b\n1,2\n")
    packed.write_bytes(gzip.compress(b"a,b\n1,2\n"))
    for path in (unpacked, packed):
        assert _read(path) == ([(2, {"a": "1", "b": "2"})], [])


def test_parquet_under_another_name_is_refused_and_so_is_the_reverse(tmp_path: Path) -> None:
    csv, parquet = tmp_path / "t.csv", tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": [1]}), csv)
    parquet.write_bytes(b"a,b\n1,2\n")
    with pytest.raises(Mistake, match=r"t\.csv is Parquet; call it \.parquet"):
        _read(csv)
    with pytest.raises(Mistake, match=r"t\.parquet is no Parquet file; call it \.csv"):
        _read(parquet)


def test_an_empty_file_is_one_fault(tmp_path: Path) -> None:
    path = _csv(tmp_path, b"")
    assert _read(path) == ([], [Fault(str(path), None, EMPTY_FILE, "")])


def test_a_header_with_a_broken_quote_breaks_the_file(tmp_path: Path) -> None:
    path = _csv(tmp_path, b'a,"b\n1,2\n')
    assert _read(path) == ([], [Fault(str(path), None, BROKEN_QUOTES, 'a,"b')])


# Parquet


def test_parquet_is_read_with_row_numbers(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    table = pa.table({"a": pa.array(["x", "y", "x"]).dictionary_encode(), "b": [1, None, 3]})
    pq.write_table(table, path, row_group_size=2)
    rows, faults = _read(path)
    assert rows == [(1, {"a": "x", "b": 1}), (2, {"a": "y", "b": None}), (3, {"a": "x", "b": 3})]
    assert faults == []


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\0" * 50])
def test_a_broken_parquet_file_is_one_fault(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.parquet"
    path.write_bytes(content)
    rows, faults = _read(path)
    assert rows == []
    assert [(fault.row, fault.reason) for fault in faults] == [(None, BROKEN_PARQUET)]


def test_a_truncated_parquet_file_is_one_fault(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": range(1000)}), path)
    path.write_bytes(path.read_bytes()[:-100])
    assert [fault.reason for fault in _read(path)[1]] == [BROKEN_PARQUET]


def test_a_broken_row_group_spares_the_others(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": range(30)}), path, row_group_size=10, use_dictionary=False)
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    content = bytearray(path.read_bytes())
    start = column.data_page_offset
    content[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(bytes(content))
    rows, faults = _read(path)
    assert [row["a"] for _, row in rows] == [*range(10), *range(20, 30)]
    assert [(fault.row, fault.reason) for fault in faults] == [(11, BROKEN_PARQUET)]


def test_parquet_texts_that_are_not_utf8_are_faults(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    raw = pa.array([b"a", b"\xff", b"c", b"d"])
    inner = pa.array([b"p", b"q", b"r", b"\xfe"]).view(pa.string())
    lists = pa.ListArray.from_arrays([0, 1, 2, 3, 4], inner)
    pq.write_table(pa.table({"bytes": raw, "text": raw.view(pa.string()), "l": lists}), path)
    rows, faults = _read(path)
    assert rows == [
        (1, {"bytes": "a", "text": "a", "l": ["p"]}),
        (3, {"bytes": "c", "text": "c", "l": ["r"]}),
    ]
    assert [(fault.row, fault.reason) for fault in faults] == [
        (2, WRONG_ENCODING),
        (4, WRONG_ENCODING),
    ]
    assert r"\xff" in faults[0].raw


# Bring your own files


@pytest.mark.parametrize("kind", [pa.string_view(), pa.binary_view(), pa.binary()])
def test_parquet_texts_of_other_types_are_texts(tmp_path: Path, kind: pa.DataType) -> None:
    table = pa.table({"a": pa.array(["x", None, "ü"]).cast(pa.binary()).cast(kind), "n": [1, 2, 3]})
    path = tmp_path / "t.parquet"
    pq.write_table(table, path)
    rows, faults = _read(path)
    assert [row for _, row in rows] == [
        {"a": "x", "n": 1},
        {"a": None, "n": 2},
        {"a": "ü", "n": 3},
    ]
    assert faults == []


@pytest.mark.parametrize("kind", [pa.large_string(), pa.large_binary(), pa.binary(1)])
def test_an_id_of_any_type_that_is_not_utf8_costs_its_own_row(
    tmp_path: Path, kind: pa.DataType
) -> None:
    stored = pa.large_binary() if pa.types.is_large_string(kind) else kind
    ids = pa.array([b"u", b"\xff", None], stored).view(kind)
    columns = {"ts": [1, 2, 3], "user_id": ids, "song_id": ["s", "s", "s"]}
    pq.write_table(pa.table(columns), tmp_path / "events.parquet")
    (batch,) = Files(tmp_path).events()
    assert batch.rows["user_id"].to_pylist() == ["u", None]
    assert [(fault.row, fault.reason) for fault in batch.faults] == [(2, WRONG_ENCODING)]


def test_uuids_are_spelt_out(tmp_path: Path) -> None:
    uuids = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"\xff" * 16, None], pa.binary(16)))
    columns = {"ts": [1, 2], "user_id": uuids, "song_id": ["s", "s"], "other": uuids}
    pq.write_table(pa.table(columns), tmp_path / "events.parquet")
    (batch,) = Files(tmp_path).events()
    spelt = "ffffffff-ffff-ffff-ffff-ffffffffffff"
    assert batch.rows["user_id"].to_pylist() == [spelt, None]
    assert batch.raw["other"].to_pylist() == [spelt, None]
    assert batch.faults == []


def test_bytes_that_nobody_asked_for_spoil_no_row(tmp_path: Path) -> None:
    columns = {"ts": ["2024-03-01"], "user_id": ["u"], "song_id": ["s"], "digest": [b"\xff\xfe"]}
    pq.write_table(pa.table(columns), tmp_path / "events.parquet")
    (batch,) = Files(tmp_path).events()
    assert batch.rows["song_id"].to_pylist() == ["s"]
    assert batch.faults == []


def test_columns_are_mapped_and_the_raw_row_keeps_its_own_names(tmp_path: Path) -> None:
    _csv(tmp_path, b"when,who,song_id,x\n1,u,s,9\n", "events.csv")
    source = Files(tmp_path, {"events": {Event.TS: "when", Event.USER: "who"}})
    (batch,) = source.events()
    row = batch.rows.to_pylist()[0]
    assert {name: row[name] for name in (Event.TS, Event.USER, Event.SONG, Event.ACTION)} == {
        Event.TS: "1",
        Event.USER: "u",
        Event.SONG: "s",
        Event.ACTION: "play",
    }
    assert Event.SESSION not in row
    assert batch.raw.to_pylist() == [{"when": "1", "who": "u", "song_id": "s", "x": "9"}]


def test_a_file_in_our_own_names_may_lie_beside_those_that_are_mapped(tmp_path: Path) -> None:
    _csv(tmp_path, b"when,who,track,what\n1,u,s,like\n", "events-1.csv")
    _csv(tmp_path, b"ts,user_id,song_id,action\n2,v,t,skip\n", "events-2.csv")
    _csv(tmp_path, b"ts,when,user_id,track,what\n0,3,w,r,play\n", "events-3.csv")
    names = {Event.TS: "when", Event.USER: "who", Event.SONG: "track", Event.ACTION: "what"}
    rows = _rows(Files(tmp_path, {"events": names}).events())
    assert [[row[name] for name in names] for row in rows] == [
        ["1", "u", "s", "like"],
        ["2", "v", "t", "skip"],
        ["3", "w", "r", "play"],
    ]


def test_what_the_mapping_calls_another_column_is_not_ours(tmp_path: Path) -> None:
    _csv(tmp_path, b"song_id,title\ns,The Night Ferry\n", "songs.csv")
    source = Files(tmp_path, {"songs": {Song.TITLE: "name", Song.BAND: "title"}})
    with pytest.raises(ValueError, match=r"lacks the columns \['name'\]"):
        list(source.songs())


def test_our_own_name_is_not_wanted_beside_the_mapped_one(tmp_path: Path) -> None:
    names = ["ts", "user_id", "track", "song_id", "song_id"]
    columns = [pa.array(["1"])] * 3 + [pa.array([b"\xff\xfe"])] * 2
    path = tmp_path / "events.parquet"
    pq.write_table(pa.Table.from_arrays(columns, names=names), path)
    (batch,) = Files(tmp_path, {"events": {Event.SONG: "track"}}).events()
    assert batch.rows["song_id"].to_pylist() == ["1"]
    assert batch.faults == []


def test_a_derived_id_depends_on_the_row_and_on_nothing_else(tmp_path: Path) -> None:
    header = b"ts,user_id,song_id\n"
    _csv(tmp_path, header + b"1,u,s\n1,u,t\n1,us,\n", "events-1.csv")
    _csv(tmp_path, header + b"2,u,s\n1,u,s\n", "events-2.csv")
    ids = [row[Event.ID] for row in _rows(Files(tmp_path).events())]
    assert ids[0] == ids[4]
    assert len(set(ids)) == 4
    assert ids == [row[Event.ID] for row in _rows(Files(tmp_path).events())]


def test_a_derived_id_is_of_the_contracts_columns_as_the_file_writes_them(tmp_path: Path) -> None:
    _csv(tmp_path, b"ts,user_id,song_id,x\n1.0,u,s,1\n1.0,u,s,2\n1,u,s,1\n", "events-1.csv")
    columns = {Event.TS: [1], Event.USER: ["u"], Event.SONG: ["s"]}
    pq.write_table(pa.table(columns), tmp_path / "events-2.parquet")
    ids = [row[Event.ID] for row in _rows(Files(tmp_path).events())]
    assert ids[0] == ids[1] != ids[2] == ids[3]


@pytest.mark.parametrize("rows", [0, 4])
def test_a_last_batch_without_rows_needs_no_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int
) -> None:
    monkeypatch.setattr(reading_module, "BATCH_ROWS", 2)
    lines = "".join(f"{number},u,s\n" for number in range(rows))
    _csv(tmp_path, f"ts,user_id,song_id\n{lines}".encode(), "events.csv")
    ids = {row[Event.ID] for row in _rows(Files(tmp_path).events())}
    assert len(ids) == rows


def test_lists_enter_derived_ids(tmp_path: Path) -> None:
    moods = [["calm"], ["calm", "sad"], None, ["calm"]]
    columns = {name: ["x"] * 4 for name in (Event.TS, Event.USER, Event.SONG)}
    pq.write_table(pa.table({**columns, Event.MOOD: moods}), tmp_path / "events.parquet")
    ids = [row[Event.ID] for row in _rows(Files(tmp_path).events())]
    assert ids[0] == ids[3]
    assert len(set(ids)) == 3


def test_a_parquet_file_without_rows_has_none(tmp_path: Path) -> None:
    empty = pa.table({Song.ID: pa.array([], pa.string())})
    pq.write_table(empty, tmp_path / "songs.parquet")
    with pq.ParquetWriter(tmp_path / "songs-2.parquet", empty.schema) as writer:
        writer.write_table(empty)
    assert _rows(Files(tmp_path).songs()) == []


def test_a_file_in_two_formats_is_refused(tmp_path: Path) -> None:
    for name in ("events.csv", "events.csv.gz", "events-1.csv"):
        _csv(tmp_path, b"ts,user_id,song_id\n", name)
    with pytest.raises(ValueError, match=r"events\.csv and .*events\.csv\.gz are of one name"):
        Files(tmp_path).files()


def test_files_that_are_not_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "events").mkdir()
    _csv(tmp_path / "events", b"ts,user_id,song_id\n", "a.csv")
    for name in ("songs.tsv", "Users.csv", "users.csv", ".hidden"):
        _csv(tmp_path, b"user_id\n", name)
    assert [path.name for path in Files(tmp_path).unread()] == ["Users.csv", "songs.tsv"]


def test_files_in_the_folder_of_a_table_that_are_not_read_are_named(tmp_path: Path) -> None:
    unread = ["events/d2.CSV", "events/day=1/d3.tsv", "songs/d4.csv.bz2", "users/d5.json"]
    hidden = ["events/_SUCCESS", "events/.d6.tsv.crc", "events/_tmp/d7.tsv", "songs/.git/d8.txt"]
    for name in ("events/d1.csv", *unread, *hidden):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("ts,user_id,song_id\n")
    assert Files(tmp_path).unread() == [tmp_path / name for name in unread]


def test_a_table_without_a_suffix_is_named(tmp_path: Path) -> None:
    (tmp_path / "events").write_text("ts,user_id,song_id\n")
    assert Files(tmp_path).unread() == [tmp_path / "events"]


def test_files_of_a_table_may_be_many_or_a_folder(tmp_path: Path) -> None:
    header = b"event_id,ts,user_id,song_id\n"
    _csv(tmp_path, header + b"a,1,u,s\n", "events.csv.gz")
    _csv(tmp_path, header + b"b,1,u,s\n", "events-2.csv")
    _csv(tmp_path, b"no", "events.txt")
    (tmp_path / "events" / "date=2024-01-01").mkdir(parents=True)
    one = pa.table({"event_id": ["c"], "ts": [1], "user_id": ["u"], "song_id": ["s"]})
    pq.write_table(one, tmp_path / "events" / "date=2024-01-01" / "part.parquet")
    pq.write_table(pa.table({"song_id": ["s"]}), tmp_path / "songs.parquet")
    source = Files(tmp_path)
    assert sorted(str(row[Event.ID]) for row in _rows(source.events())) == ["a", "b", "c"]
    assert _rows(source.songs()) == [{"song_id": "s"}]
    assert _rows(source.users()) == []
    assert len(source.files()) == 4


def test_files_of_a_system_or_a_tool_are_not_read(tmp_path: Path) -> None:
    for name in ("part-0.csv", "._part-0.csv", ".ipynb_checkpoints/part-0.csv", "_tmp/part-1.csv"):
        path = tmp_path / "events" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("ts,user_id,song_id\n2024-03-01,u,s\n")
    assert Files(tmp_path).files() == [tmp_path / "events" / "part-0.csv"]


def test_mistakes_in_the_mapping_name_what_there_is(tmp_path: Path) -> None:
    _csv(tmp_path, b"when,who,song_id\n1,u,s\n", "events.csv")
    with pytest.raises(ValueError, match=r"events.csv lacks the columns \['ts', 'user_id'\].*when"):
        list(Files(tmp_path).events())
    with pytest.raises(ValueError, match=r"lacks the columns \['mod'\]"):
        list(Files(tmp_path, {"events": {"ts": "when", "user_id": "who", "mood": "mod"}}).events())
    with pytest.raises(ValueError, match="'plays'"):
        Files(tmp_path, {"plays": {}}).files()
    with pytest.raises(ValueError, match="'listener'"):
        Files(tmp_path, {"events": {"listener": "who"}}).files()


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"ts;user_id;song_id\n1;u;s\n", "semicolons"),
        (b"ts\tuser_id\tsong_id, live\n1\tu\ts, live\n", "tabs"),
        ("ts,user_id,song_id\r\n1,u,s\r\n".encode("utf-16"), "UTF-16"),
        (b"ts,user_id,song_id\r" + b"1,u,s\r" * 9_999, "CR alone"),
        (b'[{"ts": 1, "user_id": "u", "song_id": "s"},\n{"ts": 2}]\n', "JSON"),
    ],
)
def test_a_csv_that_is_written_otherwise_is_told_so(
    tmp_path: Path, content: bytes, what: str
) -> None:
    _csv(tmp_path, content, "events.csv")
    told = rf"seems to be .*{what}; write it as CSV in UTF-8"
    with pytest.raises(ValueError, match=told) as refused:
        list(Files(tmp_path).events())
    assert len(str(refused.value)) < 3_000


@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize("name", ["events.csv", "events.csv.gz", "events.parquet"])
def test_two_columns_of_one_wanted_name_are_refused(tmp_path: Path, name: str, rows: int) -> None:
    names = ["when", "user_id", "song_id", "x", "when", "x"]
    if name.endswith(".parquet"):
        table = pa.Table.from_arrays([pa.array(["1"] * rows, pa.string())] * 6, names=names)
        pq.write_table(table, tmp_path / name)
    else:
        lines = [",".join(names).replace(",when", ", when "), *["1,1,1,1,1,1"] * rows]
        _csv(tmp_path, "\n".join(lines).encode(), name)
    source = Files(tmp_path, {"events": {Event.TS: "when"}})
    with pytest.raises(ValueError, match=rf"{name} has several columns called \['when'\]; rename"):
        list(source.events())


@pytest.mark.parametrize("name", ["events.csv", "events.parquet"])
def test_columns_that_nobody_asked_for_may_have_one_name(tmp_path: Path, name: str) -> None:
    names = ["ts", "user_id", "song_id", "x", "x"]
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_arrays([pa.array(["1"])] * 5, names=names), tmp_path / name)
    else:
        _csv(tmp_path, b"ts,user_id,song_id,x,x\n1,1,1,1,1\n", name)
    assert [row[Event.SONG] for row in _rows(Files(tmp_path).events())] == ["1"]


def test_missing_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds no events"):
        Files(tmp_path).files()
    with pytest.raises(FileNotFoundError, match="There is no folder"):
        Files(tmp_path / "x").files()
    with pytest.raises(FileNotFoundError, match="dvc repro ingest"):
        open_source("simulated", tmp_path / "x", {})
    with pytest.raises(FileNotFoundError, match="holds 0 files"):
        open_source("30music", tmp_path, {}).files()


# 30Music

_PLAYS = b"""session_id,user_id,ts,song_id,seconds_played
1,7,1400000000,11,200
1,7,1400000200,11,100
1,7,1400000300,11,99
2,8,1400000400,11,240
2,8,1400000700,12,31
2,8,1400000800,12,abc
"""


@pytest.mark.parametrize("name", ["plays.csv.gz", "other.csv"])
@pytest.mark.parametrize("as_file", [True, False])
def test_plays_become_events(tmp_path: Path, name: str, as_file: bool) -> None:
    path = _csv(tmp_path, _PLAYS, name)
    rows = _rows(ThirtyMusic(path if as_file else tmp_path).events())
    # Song 11 is usually played for the median of 99, 100, 200 and 240 seconds: 150.
    assert [row[Event.ACTION] for row in rows] == ["play"] * 6
    assert [row[Event.PLAYED_MS] for row in rows][-1] == "abc"
    assert float(str(rows[0][Event.PLAYED_MS])) == 200_000
    assert len({row[Event.ID] for row in rows}) == 6
    assert set(rows[0]) == {
        Event.ID,
        Event.TS,
        Event.USER,
        Event.SONG,
        Event.SESSION,
        Event.ACTION,
        Event.PLAYED_MS,
    }


def test_a_play_under_half_the_usual_time_is_a_skip(tmp_path: Path) -> None:
    more = b"".join(b"3,9,150000000%d,11,200\n" % i for i in range(5))
    source = ThirtyMusic(_csv(tmp_path, _PLAYS + more))
    # The usual time is 200 seconds now: 100 is half of it, 99 is under half.
    actions = {row[Event.TS]: row[Event.ACTION] for row in _rows(source.events())}
    assert [ts for ts, action in actions.items() if action == "skip"] == ["1400000300"]
    assert _rows(source.songs()) == [
        {Song.ID: "11", Song.DURATION_MS: 200_000},
        {Song.ID: "12", Song.DURATION_MS: 31_000},
    ]
    assert _rows(source.users()) == []


def test_ids_of_30music_may_be_any(tmp_path: Path) -> None:
    long = b"x" * 256
    plays = [b"1-2,3,9,a,100", b"1,2-3,9,a,100", b"1,2-3,9, a ,100", b"%b,%b,9,a,10" % (long, long)]
    source = ThirtyMusic(_csv(tmp_path, _PLAYS + b"\n".join(plays)))
    rows = _rows(source.events())[6:]
    ids = [str(row[Event.ID]) for row in rows]
    # Two listeners' plays are two, one with a blank in its line is the same; all ids are short.
    assert ids[0] != ids[1] == ids[2]
    assert {len(event) for event in ids} == {32}
    assert [row[Event.SONG] for row in rows] == ["a"] * 4
    # The usual time is of all plays of the song, however spelt.
    assert [row[Event.ACTION] for row in rows] == ["play"] * 3 + ["skip"]
    assert _rows(source.songs())[-1] == {Song.ID: "a", Song.DURATION_MS: 100_000}


def test_a_song_that_nobody_heard_any_of_has_no_length(tmp_path: Path) -> None:
    source = ThirtyMusic(_csv(tmp_path, _PLAYS + b"3,9,1500000000,13,0\n"))
    assert [row[Song.ID] for row in _rows(source.songs())] == ["11", "12"]
    assert _rows(source.events())[-1][Event.ACTION] == "play"


def test_another_file_is_not_taken_for_30music(tmp_path: Path) -> None:
    path = _csv(tmp_path, b"a,b\n1,2\n")
    with pytest.raises(ValueError, match="is not the 30Music file"):
        list(ThirtyMusic(path).events())


def test_two_columns_of_one_name_are_no_30music(tmp_path: Path) -> None:
    path = _csv(tmp_path, b"session_id,user_id,ts,song_id,seconds_played,ts,,\n1,7,1,11,2,1,,\n")
    with pytest.raises(ValueError, match=r"several columns called \['ts'\]"):
        list(ThirtyMusic(path).events())


def test_two_files_leave_open_which_is_meant(tmp_path: Path) -> None:
    _csv(tmp_path, _PLAYS, "a.csv")
    _csv(tmp_path, _PLAYS, "b.csv.gz")
    with pytest.raises(FileNotFoundError, match="holds 2 files"):
        ThirtyMusic(tmp_path).files()


# The registry


def test_the_registry_holds_what_the_parameters_allow(tmp_path: Path) -> None:
    assert set(SOURCES) == {"simulated", "30music", "files"}
    with pytest.raises(ValueError, match="no source 'spotify'"):
        open_source("spotify", tmp_path, {})


def test_the_simulated_world_needs_no_mapping(tmp_path: Path) -> None:
    one = pa.table({"event_id": ["c"], "ts": [1], "user_id": ["u"], "song_id": ["s"]})
    (tmp_path / "events").mkdir()
    pq.write_table(one, tmp_path / "events" / "part-0.parquet")
    source = open_source("simulated", tmp_path, {"events": {Event.TS: "ignored"}})
    assert [row[Event.ID] for row in _rows(source.events())] == ["c"]


def test_a_gzip_member_may_follow_another(tmp_path: Path) -> None:
    stream = io.BytesIO()
    for part in (b"a\n1\n", b"2\n"):
        stream.write(gzip.compress(part))
    path = tmp_path / "t.csv.gz"
    path.write_bytes(stream.getvalue())
    assert [row["a"] for _, row in _read(path)[0]] == ["1", "2"]
