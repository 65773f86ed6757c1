"""Judging answers by the truth of a small simulated world."""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.peers.files import Folder
from benchmarks.simulated_past import Held, Latest, fatigue
from benchmarks.simulated_truth import (
    CHANCES,
    MEASURES,
    Judge,
    by_task,
    chances,
    expected,
    markdown,
    read_peers,
    summarise,
)
from features.query import Query
from simulation.__main__ import simulate
from simulation.memory import RECENT
from simulation.sizes import Size
from simulation.truth import Truth
from training.methods import SEGUE
from training.metrics import NEXT, START
from training.queries import Labelled

MOMENT = datetime(2023, 12, 20, 18, tzinfo=UTC)


@dataclass(frozen=True)
class Known:
    truth: Truth
    users: list[str]
    songs: np.ndarray


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Known:
    folder = tmp_path_factory.mktemp("simulated")
    simulate(Size(30, 60, date(2023, 12, 12), 3, 0.9), 5, folder / "out", folder / "truth")
    truth = Truth.load(folder / "truth")
    return Known(truth, [str(u) for u in truth.user_ids], np.array(truth.song_ids, dtype=np.str_))


def test_nothing_but_benchmarks_and_tests_reads_the_truth() -> None:
    root = Path(__file__).parents[2]
    for package in ("features", "serving", "training", "dags"):
        for path in (root / package).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert "import benchmarks" not in text
            assert "from benchmarks" not in text
            assert "simulation.truth" not in text


def asked(user: str, **context: str | None) -> Labelled:
    query = Query(ts=MOMENT, user={}, context=context)
    return Labelled("q", user, query, 1, "x", "full", ("x",), ("full",))


def test_each_song_is_judged_at_its_place_in_its_context_with_its_fatigue(known: Known) -> None:
    queries = [asked(known.users[0], mood="happy", occasion=None), asked(known.users[1])]
    songs = np.array([[4, 9, -1], [9, 4, 2]], dtype=np.int32)
    latest = [known.songs[[9, 9, 3]], known.songs[[1]]]
    found = chances(known.truth, queries, known.songs, songs, latest)
    one = known.truth.probabilities(
        [known.users[0]], [known.songs[9]], mood="happy", ts=MOMENT, position=2, fatigue=2
    )
    for name in CHANCES:
        assert found[name][0, 1] == pytest.approx(float(getattr(one, name)[0]))
        assert np.isnan(found[name][0, 2])
        assert np.isfinite(found[name][1]).all()


def test_fatigue_counts_only_the_query_s_own_latest() -> None:
    latest = [np.array(["a", "b", "a"], dtype=object), np.array([], dtype=object)]
    songs = np.array([["a", "c"], ["a", "b"]], dtype=object)
    assert fatigue(latest, songs).tolist() == [[2, 0], [0, 0]]


def test_latest_listenings_are_the_listener_s_own_before_the_moment() -> None:
    rows = [
        ("u", i, f"e{i:02d}", f"s{i:02d}", "play" if i % 2 else "skip") for i in range(RECENT + 5)
    ]
    rows += [("u", 3, "like", "s03", "like"), ("v", 1, "other", "theirs", "play")]
    events = pd.DataFrame(rows, columns=["user_id", "ts", "event_id", "song_id", "action"])
    events["ts"] = pd.Timestamp("2024-01-01", tz="UTC") + pd.to_timedelta(events["ts"], "min")
    latest = Latest.of(events.sample(frac=1, random_state=1))

    def before(user: str, moment: datetime) -> list[str]:
        query = Query(ts=moment)
        return latest.before(Labelled("q", user, query, 0, "x", "full", (), ())).tolist()

    at = datetime(2024, 1, 1, 0, 3, tzinfo=UTC)
    assert before("u", at) == ["s00", "s01", "s02"]
    assert before("v", at) == ["theirs"]
    assert before("nobody", at) == []
    late = before("u", datetime(2024, 1, 2, tzinfo=UTC))
    assert late == [f"s{i:02d}" for i in range(5, RECENT + 5)]


def test_the_mean_is_over_the_songs_that_there_are() -> None:
    skip = np.array([np.arange(10) / 10, [0.2, 0.4] + [np.nan] * 8, [np.nan] * 10])
    found = expected({"skip": skip, "like": skip})
    np.testing.assert_allclose(found["skip_5"], [0.2, 0.3, np.nan])
    np.testing.assert_allclose(found["skip_10"], [0.45, 0.3, np.nan])


def events_of(*rows: tuple[int, str, str, str]) -> pd.DataFrame:
    """Return events (minutes before MOMENT, user, song, action)."""
    frame = pd.DataFrame(rows, columns=["before", "user_id", "song_id", "action"])
    frame["ts"] = pd.Timestamp(MOMENT) - pd.to_timedelta(frame["before"], "min")
    return frame.assign(event_id=[f"e{i}" for i in range(len(frame))])


def test_a_song_is_held_from_its_like_until_that_is_taken_back() -> None:
    events = events_of(
        (9, "u", "a", "like"), (5, "u", "a", "unlike"), (7, "u", "b", "like"), (0, "u", "c", "like")
    )
    held = Held.of(events, "like", "unlike")
    now = np.datetime64(MOMENT.replace(tzinfo=None), "us")
    minute = np.timedelta64(1, "m")
    assert [held.at("u", song, now) for song in "abcd"] == [False, True, False, False]
    assert held.at("u", "a", now - 6 * minute)
    assert held.at("u", "c", now + minute)
    assert not held.at("v", "b", now)


def test_a_like_is_new_only_where_the_song_is_not_liked_yet(known: Known) -> None:
    user, songs = known.users[0], known.songs
    events = events_of((50, user, str(songs[4]), "like"), (50, user, str(songs[4]), "play"))
    judge = Judge.of(known.truth, [asked(user)], songs, events)
    row = np.array([[4, 9, *[-1] * 8]], dtype=np.int32)
    one = known.truth.probabilities(
        [user], songs[None, [4, 9]], ts=[MOMENT], position=np.array([1, 2]), fatigue=[[1, 0]]
    )
    found = judge(row)
    assert found["like_10"][0] == pytest.approx(one.like.mean())
    assert found["new_like_10"][0] == pytest.approx(one.like[0, 1] / 2)
    assert found["new_add_10"][0] == pytest.approx(one.add.mean())


NAMES = [f"{chance}_{depth}" for chance in MEASURES for depth in (5, 10)]


def test_leads_are_paired_and_leave_out_what_was_not_answered() -> None:
    random = np.random.default_rng(3)
    listeners = [f"u{i // 4}" for i in range(400)]
    # Listeners differ much, methods little: only a paired interval can tell them apart.
    base = np.repeat(random.uniform(0.1, 0.9, 100), 4)
    worse = base + 0.02
    worse[::10] = np.nan
    by_method = {"peer: one": dict.fromkeys(NAMES, worse), SEGUE: dict.fromkeys(NAMES, base)}
    found = summarise(by_method, listeners, draws=200, seed=1)
    peer = found["peer: one"]
    assert peer["answered"] == pytest.approx(0.9)
    assert peer["skip_5"]["segue_minus"] == pytest.approx(-0.02)
    assert peer["skip_5"]["segue_minus_interval"] == pytest.approx((-0.02, -0.02))
    low, high = peer["skip_5"]["interval"]
    assert low < peer["skip_5"]["value"] < high
    assert high - low > 0.05
    assert found[SEGUE]["like_10"]["segue_minus"] == 0


def test_tasks_are_judged_apart_and_the_tables_name_them() -> None:
    places = (("u", 0), ("v", 0), ("u", 3), ("v", 4))
    queries = [replace(asked("u"), place=place, user_id=user) for user, place in places]
    values = {
        SEGUE: dict.fromkeys(NAMES, np.array([0.2, 0.2, 0.4, 0.6])),
        "peer: one": dict.fromkeys(NAMES, np.array([0.1, 0.1, 0.4, 0.7])),
        "next only": dict.fromkeys(NAMES, np.array([np.nan, np.nan, 0.1, 0.1])),
    }
    found = by_task(values, queries, draws=20, seed=1)
    assert list(found) == ["all", NEXT, START]
    value = {task: one[SEGUE]["like_10"]["value"] for task, one in found.items()}
    assert value == pytest.approx({"all": 0.35, NEXT: 0.5, START: 0.2})
    assert found[START]["peer: one"]["like_10"]["segue_minus"] == pytest.approx(0.1)
    assert found[NEXT]["peer: one"]["like_10"]["segue_minus"] == pytest.approx(-0.05)
    assert "next only" in found[NEXT]
    # It answers no start, so that there is nothing to say of it there.
    assert "next only" not in found[START]
    text = markdown({"repeats": {START: found[START]}})
    assert "## Songs of the session: repeats; queries: session start" in text
    rows = text.splitlines()
    assert rows[-2].startswith("| **segue** | 100% | 0.2000 [0.2000, 0.2000] |  |")
    assert rows[-1].startswith("| peer: one | 100% | 0.1000 [0.1000, 0.1000] | +0.1000 [")


def answered(folder: Folder, repeats: bool, *rows: tuple[str, int, str]) -> None:
    path = folder.answers("EASE", repeats)
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=["query_id", "rank", "song_id"]).to_parquet(path, index=False)


def test_peers_answers_are_read_by_query_and_rank(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    answered(folder, True, ("q2", 1, "c"), ("q2", 11, "a"), ("q1", 2, "b"), ("other", 1, "a"))
    answered(folder, False, ("q1", 1, "a"))
    found = read_peers(folder, ["q1", "q2"], np.array(["a", "b", "c"]), repeats=True)
    assert list(found) == ["EASE"]
    assert found["EASE"].tolist() == [[-1, 1, *[-1] * 8], [2, *[-1] * 9]]
    with pytest.raises(ValueError, match="does not answer all"):
        read_peers(folder, ["q1", "q2"], np.array(["a", "b", "c"]), repeats=False)


def test_a_song_that_is_not_skipped_is_heard_to_its_end(known: Known) -> None:
    found = known.truth.probabilities(known.users[:2], known.songs[:2], ts=MOMENT)
    np.testing.assert_allclose(found.complete, 1 - found.skip)
    # In the model by hand: utility 1, no fatigue, place 1, recommended: skip logit 1.3 - 0.8.
    one = known.truth.model.probabilities(np.array([1.0]), 0.0, 1, 3)
    assert one.complete[0] == pytest.approx(1 / (1 + np.exp(0.5)))
    assert one.like[0] == pytest.approx(one.complete[0] / (1 + np.exp(4.5)))
