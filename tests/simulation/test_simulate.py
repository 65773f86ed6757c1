import gc
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.columns import Action, Event, Song, User
from simulation.__main__ import main, simulate
from simulation.sizes import SIZES, Size
from simulation.stream import days
from simulation.world import build_world
from tests.simulation.conftest import Written, read_events

FEW = Size(40, 200, date(2023, 12, 20), 4, 0.9, part_rows=1_000)
UTC = pa.timestamp("us", tz="UTC")
WORDS = pa.list_(pa.string())


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def run(size: Size, seed: int, folder: Path) -> dict[str, bytes]:
    simulate(size, seed, folder / "out", folder / "truth")
    return bytes_of(folder)


@pytest.mark.parametrize("seed", ["-1", "1.5", "seven", str(2**31)])
def test_what_is_no_seed_is_refused_with_a_sentence(seed, tmp_path, monkeypatch, capsys) -> None:
    places = ["--out", str(tmp_path / "out"), "--truth", str(tmp_path / "truth")]
    monkeypatch.setattr("sys.argv", ["simulation", "--seed", seed, *places])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert f"a seed is a whole number below 2^31, not '{seed}'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_same_seed_same_bytes_and_another_seed_other_bytes(tmp_path: Path) -> None:
    first = run(FEW, 1, tmp_path / "first")
    assert first == run(FEW, 1, tmp_path / "again")
    other = run(FEW, 2, tmp_path / "other")
    for name in ("out/users.parquet", "out/songs.parquet", "out/events/part-0000.parquet"):
        assert first[name] != other[name]


def test_a_shorter_second_run_leaves_no_part_of_the_first(tmp_path: Path) -> None:
    run(FEW, 1, tmp_path)
    shorter = replace(FEW, days=2)
    total = simulate(shorter, 1, tmp_path / "out", tmp_path / "truth")
    assert len(read_events(tmp_path / "out")) == total


def test_chunks_do_not_change_the_events(tmp_path: Path) -> None:
    whole = run(FEW, 3, tmp_path / "whole")
    for listeners in (1, 7, 39):
        size = replace(FEW, chunk_listeners=listeners)
        assert run(size, 3, tmp_path / str(listeners)) == whole


def test_part_size_changes_the_parts_only(tmp_path: Path) -> None:
    run(FEW, 3, tmp_path / "many")
    run(replace(FEW, part_rows=10**9), 3, tmp_path / "one")
    assert len(list((tmp_path / "many/out/events").iterdir())) > 1
    assert len(list((tmp_path / "one/out/events").iterdir())) == 1
    pd.testing.assert_frame_equal(
        read_events(tmp_path / "many/out"), read_events(tmp_path / "one/out")
    )


def test_memory_does_not_grow_with_the_length_of_the_period() -> None:
    world = build_world(replace(FEW, days=10), 1)
    held, passed = [], []
    tracemalloc.start()
    for columns in days(world):
        gc.collect()
        held.append(tracemalloc.get_traced_memory()[0])
        passed.append(sum(column.nbytes for column in columns.values()))
    tracemalloc.stop()
    # A stream that kept its days would hold those between the first and the last three.
    assert min(held[-3:]) - min(held[:3]) < 0.5 * sum(passed[3:-3])


def test_sizes_are_ordered_and_default_holds_diwali_and_christmas() -> None:
    tiny, default, large = SIZES["tiny"], SIZES["default"], SIZES["large"]
    assert tiny.listeners < default.listeners < large.listeners
    assert default.days == 56
    assert default.start <= date(2023, 11, 12)
    assert default.end > date(2023, 12, 25)
    assert large.end > date(2024, 4, 10)


def test_tables_have_the_columns_and_types_of_the_contract(written: Written) -> None:
    events = pq.read_schema(next((written.out / "events").iterdir()))
    users = pq.read_schema(written.out / "users.parquet")
    songs = pq.read_schema(written.out / "songs.parquet")
    assert tuple(events.names) == Event.ORDER
    assert tuple(users.names) == User.ORDER
    assert tuple(songs.names) == Song.ORDER
    assert events.field(Event.TS).type == UTC
    assert users.field(User.SIGNUP_TS).type == UTC
    assert songs.field(Song.RELEASED_TS).type == UTC
    assert users.field(User.LANGUAGES).type == WORDS
    assert users.field(User.FAVOURITE_ARTISTS).type == WORDS
    for name in (Song.ARTISTS, Song.GENRES, Song.MOODS, Song.OCCASIONS):
        assert songs.field(name).type == WORDS
    for name in (Event.ID, Event.USER, Event.SONG, Event.SESSION, Event.ACTION, Event.REQUEST):
        assert events.field(name).type == pa.string()


def test_ids_are_unique_and_refer_to_each_other(written: Written) -> None:
    assert written.events[Event.ID].is_unique
    assert written.users[User.ID].is_unique
    assert written.songs[Song.ID].is_unique
    assert set(written.events[Event.USER]) <= set(written.users[User.ID])
    assert set(written.events[Event.SONG]) <= set(written.songs[Song.ID])
    assert set(written.events[Event.ACTION]) <= set(Action.ALL)


def test_events_are_in_order_of_time_within_the_period(written: Written) -> None:
    ts = written.events[Event.TS]
    assert ts.is_monotonic_increasing
    assert ts.iloc[0] >= pd.Timestamp("2023-12-12", tz="UTC")
    assert ts.iloc[-1] < pd.Timestamp("2023-12-26", tz="UTC")


def test_played_ms_is_of_listenings_only_and_fits_the_song(written: Written) -> None:
    events = written.events.merge(written.songs[[Song.ID, Song.DURATION_MS]], on=Song.ID)
    listening = events[Event.ACTION].isin(Action.LISTENINGS)
    assert (events[Event.PLAYED_MS].notna() == listening).all()
    plays = events[events[Event.ACTION] == Action.PLAY]
    assert (plays[Event.PLAYED_MS] == plays[Song.DURATION_MS]).all()
    skips = events[events[Event.ACTION] == Action.SKIP]
    assert (skips[Event.PLAYED_MS] < skips[Song.DURATION_MS]).all()


def test_likes_are_rare_and_skips_abundant(written: Written) -> None:
    counts = written.events[Event.ACTION].value_counts()
    listenings = counts[Action.PLAY] + counts[Action.SKIP]
    assert 0.25 < counts[Action.SKIP] / listenings < 0.65
    assert 0.005 < counts[Action.LIKE] / listenings < 0.06
    assert 0.002 < counts[Action.PLAYLIST_ADD] / listenings < 0.03


def test_likes_follow_a_play_of_the_song_in_their_session(written: Written) -> None:
    events = written.events
    keys = [Event.SESSION, Event.SONG]
    played = events[events[Event.ACTION] == Action.PLAY].groupby(keys)[Event.TS].min()
    likes = events[events[Event.ACTION] == Action.LIKE].join(played.rename("played"), on=keys)
    assert len(likes) > 50
    assert (likes[Event.TS] >= likes["played"]).all()


def test_a_listener_has_one_session_at_a_time(written: Written) -> None:
    spans = written.events.groupby([Event.USER, Event.SESSION])[Event.TS].agg(["min", "max"])
    spans = spans.sort_values([Event.USER, "min"])
    gap = spans["min"] - spans.groupby(Event.USER)["max"].shift()
    assert gap.dropna().min() > pd.Timedelta(minutes=20)


def test_context_does_not_change_within_a_session(written: Written) -> None:
    context = written.events.fillna(dict.fromkeys(Event.CONTEXT, ""))
    assert (context.groupby(Event.SESSION)[list(Event.CONTEXT)].nunique() == 1).all(axis=None)


def test_nobody_plays_before_sign_up_and_newcomers_keep_arriving(written: Written) -> None:
    first = written.events.groupby(Event.USER)[Event.TS].min()
    signup = written.users.set_index(User.ID)[User.SIGNUP_TS].loc[first.index]
    assert (first > signup).all()
    start = written.events[Event.TS].iloc[0]
    assert (signup[signup > start].dt.date.nunique()) >= 5


def test_no_song_is_played_before_its_release_and_new_ones_keep_arriving(written: Written) -> None:
    first = written.events.groupby(Event.SONG)[Event.TS].min()
    released = written.songs.set_index(Song.ID)[Song.RELEASED_TS].loc[first.index]
    assert (first > released).all()
    assert (released > written.events[Event.TS].iloc[0]).sum() >= 5


def test_tags_are_sparse_and_popularity_is_heavy_tailed(written: Written) -> None:
    tagged = written.songs[Song.MOODS].map(len) > 0
    assert 0.15 < tagged.mean() < 0.35
    assert (written.songs[Song.OCCASIONS].map(len) > 0).mean() < 0.3
    counts = np.sort(written.events[Event.SONG].value_counts().to_numpy())[::-1]
    assert 0.2 < counts[: len(written.songs) // 10].sum() / counts.sum() < 0.6


@pytest.mark.parametrize("of", [lambda r: r[Event.USER], lambda r: r[Event.SONG]])
def test_a_good_share_of_listenings_repeats(
    listenings: pd.DataFrame, of: Callable[[pd.DataFrame], pd.Series]
) -> None:
    again = listenings.duplicated([Event.USER, Event.SONG])
    assert of(listenings[again]).nunique() > 50
    assert 0.35 < again.mean() < 0.75


@pytest.mark.parametrize(
    ("given", "taken"),
    [(Action.LIKE, Action.UNLIKE), (Action.PLAYLIST_ADD, Action.PLAYLIST_REMOVE)],
)
def test_a_song_is_liked_again_only_after_it_was_taken_back(written, given, taken):
    acts = written.events[written.events[Event.ACTION].isin([given, taken])]
    before = acts.groupby([Event.USER, Event.SONG])[Event.ACTION].shift().fillna(taken)
    assert (acts[Event.ACTION] != before).all()
