"""Batch answers are the served answers, for any query file."""

import shutil
from datetime import timedelta
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.columns import Event, User, UserRow
from features.mistakes import Mistake
from features.query import MAX_SESSION, Query, SessionEvent
from features.store import historical_user_rows
from serving import batch
from serving.batch import (
    COLUMNS,
    answer,
    answers_frame,
    check_queries,
    id_of,
    questions,
    read_queries,
    songs_of,
)
from serving.recommender import RankedSong, Recommender, Slate
from tests.serving.conftest import AS_OF, song_id

K = 8
# What Feast and Ibis call deprecated is no concern of ours; forked workers are (see `answer`).
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def queries(**changes) -> pd.DataFrame:
    """Return queries of known and unknown listeners, with and without (known) songs."""
    later = AS_OF + timedelta(hours=3)
    columns = {
        "query_id": ["a", "b", "c", "d", "e"],
        "user_id": ["user-1", "user-2", "stranger", None, "user-1"],
        "ts": pd.to_datetime([later] * 4 + [AS_OF - timedelta(days=300)]).as_unit("us"),
        "session": [
            [song_id(3), song_id(13)],
            [],
            ["no such song", song_id(4)],
            None,
            [song_id(5), song_id(5)],
        ],
    }
    return pd.DataFrame(columns | changes)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_missing_column_is_named(name):
    with pytest.raises(ValueError, match=f"lack the columns .*'{name}'.* they need"):
        check_queries(queries().drop(columns=name))


@pytest.mark.parametrize("second", ["a", None])
def test_an_id_that_comes_twice_or_never_is_refused(second):
    with pytest.raises(ValueError, match="Row 1: query_id is missing or comes twice"):
        check_queries(queries(query_id=["a", second, "c", "d", "e"]))


@pytest.mark.parametrize("moment", ["yesterdayish", None, "2024-13-01"])
def test_a_garbled_time_is_refused(moment):
    times = ["2024-03-01T00:00:00Z", "2024-03-01T00:00:00Z", moment, "2024-03-01", "2024-03-01"]
    with pytest.raises(ValueError, match="Row 2: ts cannot be read"):
        check_queries(queries(ts=times))


def test_times_of_any_zone_become_utc():
    frame = queries().head(2).assign(ts=["2024-03-01T05:30:00+05:30", "2024-03-01T00:00:00.000"])
    assert check_queries(frame)["ts"].tolist() == [pd.Timestamp("2024-03-01", tz="UTC")] * 2


def test_unix_times_are_read_as_the_import_reads_them():
    frame = queries().head(2).assign(ts=[1_709_251_200, 1_709_251_200_000])
    assert check_queries(frame)["ts"].tolist() == [pd.Timestamp("2024-03-01", tz="UTC")] * 2


@pytest.mark.parametrize("cell", ["song-3|song-13", '["song-3"]', 3])
def test_a_session_that_is_no_list_is_refused(cell):
    sessions = [[], None, cell, [], []]
    with pytest.raises(ValueError, match="Row 2: session is no list"):
        check_queries(queries(session=sessions))


@pytest.mark.parametrize("cell", [["a", "b"], ("a", "b"), np.array(["a", "b"])])
def test_a_session_cell_may_be_any_list(cell):
    assert songs_of(cell) == ["a", "b"]
    assert [songs_of(empty) for empty in (None, np.nan, [], np.array([]))] == [[]] * 4


def test_of_a_long_session_the_latest_songs_are_heeded():
    songs = [f"s{n}" for n in range(MAX_SESSION + 3)]
    assert songs_of(songs) == songs[3:]


def test_an_empty_session_begins_now_and_another_goes_on():
    frame = queries()
    running = questions(frame)[Event.SESSION].tolist()
    # None is the listener's latest session, as far as it goes on.
    assert running == [None, "", None, "", None]
    named = questions(frame.assign(session_id=["x", "y", None, np.nan, "z"]))
    assert named[Event.SESSION].tolist() == ["x", "", None, "", "z"]
    assert named[User.ID].tolist() == ["user-1", "user-2", "stranger", "", "user-1"]


def test_whole_ids_beside_nulls_stay_whole(tmp_path):
    """Pandas reads a column of whole numbers and a null as floats."""
    frame = queries().assign(
        user_id=pd.array([17, 18, 19, None, 17], "Int64"),
        session_id=pd.array([5, None, None, None, 6], "Int64"),
    )
    frame.to_parquet(tmp_path / "q.parquet", index=False)
    columns = ["user_id", "session_id"]
    whole = pq.read_table(tmp_path / "q.parquet").replace_schema_metadata().to_pandas()
    assert whole[columns].dtypes.tolist() == [np.float64] * 2
    for found in (questions(check_queries(whole)), questions(check_queries(frame))):
        assert found[User.ID].tolist() == ["17", "18", "19", "", "17"]
        assert found[Event.SESSION].tolist() == ["5", "", None, "", "6"]


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        ("ü1".encode(), "ü1"),
        (" u1 ", "u1"),
        (2**53 + 1, "9007199254740993"),
        (17.0, "17"),
        *((nothing, None) for nothing in (None, np.nan, pd.NA, " ")),
    ],
)
def test_ids_of_any_kind_are_read_as_the_import_reads_them(cell, text):
    assert id_of(cell) == text


def test_bytes_that_are_no_text_are_no_id():
    with pytest.raises(ValueError, match="is no UTF-8"):
        id_of(b"\xff")


@pytest.mark.parametrize("cell", [{"song_id": "s"}, ["s"], np.array([]), np.array(["s", "t"])])
def test_what_holds_ids_is_no_id(cell):
    with pytest.raises(ValueError, match="no single value; write ids as texts"):
        id_of(cell)


def test_large_ids_beside_nulls_keep_all_digits(store_data, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGUE_DATA", str(store_data))
    songs = pa.array([[2**53 + 1, None], [], None], pa.list_(pa.int64()))
    columns = {"query_id": ["a", "b", "c"], "user_id": pa.array([2**53 + 1, None, 3])}
    times = ["2024-03-01T00:00:00Z"] * 3
    pq.write_table(pa.table(columns | {"ts": times, "session": songs}), tmp_path / "q.parquet")
    _, found = read_queries(tmp_path / "q.parquet", True, store_data / "lake", 20)
    assert [one.song_id for one in found[0].session] == ["9007199254740993"]
    assert [len(one.session) for one in found] == [1, 0, 0]


def test_what_was_heard_since_the_snapshot_is_known(bundle, store_data, tmp_path, monkeypatch):
    """Songs that another session of the lake played after the snapshot are the listener's own."""
    monkeypatch.setenv("SEGUE_DATA", str(store_data))
    lake = tmp_path / "lake"
    shutil.copytree(store_data / "lake", lake)
    when = AS_OF + timedelta(hours=1)
    heard = [song_id(i) for i in (33, 34, 35)]
    columns = pq.read_schema(next((store_data / "lake" / "events").rglob("*.parquet")))
    rows = [
        {"event_id": f"late-{i}", "ts": when + timedelta(minutes=i), "user_id": "user-1"}
        | {"song_id": song, "session_id": "late", "action": "play"}
        for i, song in enumerate(heard)
    ]
    day = lake / "events" / f"date={when.date()}"
    day.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, columns), day / "late.parquet")
    frame = queries().query("query_id == 'a'")
    path = tmp_path / "q.parquet"
    frame.to_parquet(path, index=False)

    def history(where):
        return list(read_queries(path, True, where, 128)[1][0].user[UserRow.HISTORY_SONGS])

    before = history(store_data / "lake")
    assert history(lake)[:3] == heard[::-1]
    assert history(lake)[3:] == [song for song in before if song not in heard]
    # Without a lake, as the store has it.
    assert history(tmp_path / "nowhere") == before
    # As far as it goes on, the latest session is the running one, which is no history.
    frame.assign(ts=when + timedelta(minutes=9)).to_parquet(path, index=False)
    assert history(lake) == before


def test_a_session_is_found_by_the_id_that_others_had_too(store_data, tmp_path, monkeypatch):
    """The import calls it `<user>/<id>`; its events are the session, and no history."""
    monkeypatch.setenv("SEGUE_DATA", str(store_data))
    lake = tmp_path / "lake"
    shutil.copytree(store_data / "lake", lake)
    when = AS_OF + timedelta(hours=1)
    columns = pq.read_schema(next((store_data / "lake" / "events").rglob("*.parquet")))
    row = {"event_id": "late", "ts": when, "user_id": "user-1", "song_id": song_id(34)}
    row |= {"session_id": "user-1/7", "action": "play"}
    day = lake / "events" / f"date={when.date()}"
    day.mkdir(exist_ok=True)
    pq.write_table(pa.Table.from_pylist([row], columns), day / "late.parquet")
    frame = queries().query("query_id == 'a'").assign(ts=when + timedelta(hours=2))
    path = tmp_path / "q.parquet"

    def history(session):
        frame.assign(session_id=session).to_parquet(path, index=False)
        return list(read_queries(path, True, lake, 128)[1][0].user[UserRow.HISTORY_SONGS])

    assert history("user-1/7") == history("7") != history("8")
    assert history("8")[0] == song_id(34)


def test_answers_have_a_row_a_song_ranked_from_one():
    slates = [
        Slate((RankedSong("x", 0, 2.0, None, (), ()), RankedSong("y", 1, 1.0, None, (), ())), ()),
        Slate((), ()),
        Slate((RankedSong("y", 1, 0.5, None, (), ()),), ()),
    ]
    rows = list(answers_frame(["a", "b", "c"], slates).itertuples(index=False, name=None))
    assert rows == [("a", 1, "x", 2.0), ("a", 2, "y", 1.0), ("c", 1, "y", 0.5)]


def test_blocks_come_back_in_order(bundle, monkeypatch):
    monkeypatch.setattr(batch, "BLOCK", 3)
    asked = [Query(ts=AS_OF, session=(SessionEvent(song_id(i)),)) for i in range(10)]
    recommender = Recommender.load(bundle)
    found = list(answer(bundle, asked, K, workers=2))
    assert found == [recommender.recommend(query, K) for query in asked]


def run(monkeypatch, tmp_path, bundle, frame, *more):
    """Run `main` on a file of queries and return its answers."""
    frame.to_parquet(tmp_path / "q.parquet", index=False)
    named = {"queries": tmp_path / "q.parquet", "out": tmp_path / "p.parquet", "bundle": bundle}
    arguments = [f"--{name}={value}" for name, value in named.items()]
    monkeypatch.setattr("sys.argv", ["batch", *arguments, f"--k={K}", "--workers=2", *more])
    batch.main()
    return pd.read_parquet(tmp_path / "p.parquet")


def served(bundle, frame, repeats):
    """Answer each query by itself, as the service does, from the store's row of that moment."""
    recommender = Recommender.load(bundle)
    answers = {}
    for _, asked in frame.iterrows():
        entity = {User.ID: [asked["user_id"] or ""], UserRow.TS: [asked["ts"]]}
        row = historical_user_rows(pd.DataFrame(entity)).to_dict("records")[0]
        session = tuple(SessionEvent(song) for song in asked["session"] or ())
        moment = asked["ts"].to_pydatetime()
        query = Query(ts=moment, user=row, session=session, allow_repeats=repeats)
        answers[asked["query_id"]] = recommender.recommend(query, K).songs
    return answers


@pytest.mark.parametrize("options", [(), ("--no-repeats",)])
def test_a_file_is_answered_as_the_service_would(
    bundle, store_data, tmp_path, monkeypatch, capsys, options
):
    monkeypatch.setenv("SEGUE_DATA", str(store_data))
    monkeypatch.setattr(batch, "BLOCK", 2)
    frame = queries()
    found = run(monkeypatch, tmp_path, bundle, frame, *options)
    assert found.columns.tolist() == ["query_id", "rank", "song_id", "score"]
    expected = served(bundle, frame, repeats=not options)
    assert list(dict.fromkeys(found["query_id"])) == frame["query_id"].tolist()
    for query_id, part in found.groupby("query_id"):
        assert part["rank"].tolist() == list(range(1, K + 1))
        assert part["song_id"].tolist() == [song.song_id for song in expected[query_id]]
        np.testing.assert_allclose(part["score"], [song.score for song in expected[query_id]])
    assert "5 queries in" in capsys.readouterr().out


def test_a_lake_that_is_missing_is_told(bundle, store_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SEGUE_DATA", str(store_data))
    here, nowhere = store_data / "lake", tmp_path / "nowhere"
    for lake, told in ((here, ""), (nowhere, f"There is no lake at {nowhere}: ")):
        assert len(run(monkeypatch, tmp_path, bundle, queries(), f"--lake={lake}"))
        said = capsys.readouterr().err
        assert told in said
        assert ("no lake" in said) == bool(told)


def test_repeats_are_proposed_unless_barred(bundle, store_data, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGUE_DATA", str(store_data))
    frame = queries().query("query_id == 'e'")
    frame = frame.assign(session=[[song_id(i) for i in (3, 13, 23)]])
    played = set(frame["session"].iloc[0])
    with_repeats = run(monkeypatch, tmp_path, bundle, frame, "--k=1000")
    without = run(monkeypatch, tmp_path, bundle, frame, "--no-repeats", "--k=1000")
    assert played <= set(with_repeats["song_id"])
    assert not played & set(without["song_id"])


def test_known_listeners_are_not_answered_as_strangers(bundle, store_data, monkeypatch, tmp_path):
    """User 2 hears cluster 5: the store's row reaches the answer."""
    monkeypatch.setenv("SEGUE_DATA", str(store_data))
    frame = queries().iloc[[1, 2]].assign(session=[[], []])
    found = run(monkeypatch, tmp_path, bundle, frame).groupby("query_id")["song_id"].agg(list)
    assert found["b"] != found["c"]


def test_what_cannot_be_answered_ends_with_a_sentence(bundle, tmp_path, monkeypatch):
    with pytest.raises(Mistake, match=r"q\.parquet: The queries lack the columns \['ts'\]"):
        run(monkeypatch, tmp_path, bundle, queries().drop(columns="ts"))
    assert not (tmp_path / "p.parquet").exists()


def test_an_error_of_the_ranking_is_no_fault_of_the_queries(
    bundle, store_data, tmp_path, monkeypatch
):
    def broken(*_):
        raise ValueError("operands could not be broadcast together")
        yield

    monkeypatch.setenv("SEGUE_DATA", str(store_data))
    monkeypatch.setattr(batch, "answer", broken)
    with pytest.raises(ValueError, match="^operands could not be broadcast together$") as caught:
        run(monkeypatch, tmp_path, bundle, queries())
    assert not isinstance(caught.value, Mistake)


def test_answers_that_cannot_be_written_leave_those_of_before(
    bundle, store_data, tmp_path, monkeypatch
):
    def full(frame, path, index):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setenv("SEGUE_DATA", str(store_data))
    before = run(monkeypatch, tmp_path, bundle, queries())
    monkeypatch.setattr(pd.DataFrame, "to_parquet", full)
    with pytest.raises(OSError, match="No space left"):
        batch.main()
    assert pd.read_parquet(tmp_path / "p.parquet").equals(before)
    assert not list(tmp_path.glob("*.part"))


def test_a_file_of_another_kind_is_told(bundle, tmp_path, monkeypatch):
    (tmp_path / "q.csv").write_text("query_id\na\n")
    with pytest.raises(Mistake, match=r"q\.csv: .*[Pp]arquet"):
        run(monkeypatch, tmp_path, bundle, queries(), f"--queries={tmp_path / 'q.csv'}")


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("--k=0", "--k is 0; ask for 1 song or more"),
        ("--k=-3", "--k is -3; ask for 1 song or more"),
        ("--out=/nowhere/at/all.parquet", "--out /nowhere/at/all.parquet cannot be written"),
        ("--out=/", "--out / cannot be written"),
    ],
)
def test_what_cannot_be_written_is_told_before_the_work(
    bundle, tmp_path, monkeypatch, capsys, option, told
):
    monkeypatch.setattr(batch, "read_queries", None)
    with pytest.raises(SystemExit, match="2"):
        run(monkeypatch, tmp_path, bundle, queries(), option)
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("path", ["missing.parquet", ""])
def test_queries_that_are_not_there_are_told(monkeypatch, capsys, path):
    monkeypatch.setattr("sys.argv", ["batch", f"--queries={path}", "--out=o.parquet"])
    with pytest.raises(SystemExit, match="2"):
        batch.main()
    assert f"There is no file {path}" in capsys.readouterr().err


def test_no_queries_have_no_answers(bundle, store_data, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGUE_DATA", str(store_data))
    found = run(monkeypatch, tmp_path, bundle, queries().head(0))
    types = {"query_id": "string", "rank": "int64", "song_id": "string", "score": "double"}
    written = pa.Table.from_pandas(answers_frame([], []), preserve_index=False).schema
    assert {field.name: str(field.type) for field in written} == types
    assert found.empty
    assert found.columns.tolist() == list(types)


def test_a_missing_bundle_ends_with_a_sentence(store_data, tmp_path, monkeypatch):
    monkeypatch.setenv("SEGUE_DATA", str(store_data))
    with pytest.raises(Mistake, match="There is no bundle at"):
        run(monkeypatch, tmp_path, tmp_path / "nowhere", queries())
