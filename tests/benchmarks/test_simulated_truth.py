"""Judging answers by the truth of a small simulated world."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.simulated_truth import Latest, chances, expected, fatigue, show, summarise
from features.query import Query
from simulation.__main__ import simulate
from simulation.memory import RECENT
from simulation.sizes import Size
from simulation.truth import Truth
from training.evaluate import POPULARITY
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
    for name in ("skip", "like", "add"):
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
    at = np.datetime64("2024-01-01T00:03", "us")
    assert latest.before("u", at).tolist() == ["s00", "s01", "s02"]
    assert latest.before("v", at).tolist() == ["theirs"]
    assert latest.before("nobody", at).tolist() == []
    late = latest.before("u", np.datetime64("2024-01-02", "us")).tolist()
    assert late == [f"s{i:02d}" for i in range(5, RECENT + 5)]


def test_the_mean_is_over_the_songs_that_there_are() -> None:
    skip = np.array([np.arange(10) / 10, [0.2, 0.4] + [np.nan] * 8, [np.nan] * 10])
    found = expected({"skip": skip, "like": skip, "add": skip})
    np.testing.assert_allclose(found["skip_5"], [0.2, 0.3, np.nan])
    np.testing.assert_allclose(found["skip_10"], [0.45, 0.3, np.nan])


def test_leads_are_paired_and_leave_out_what_was_not_answered() -> None:
    random = np.random.default_rng(3)
    listeners = [f"u{i // 4}" for i in range(400)]
    # Listeners differ much, methods little: only a paired interval can tell them apart.
    base = np.repeat(random.uniform(0.1, 0.9, 100), 4)
    better = base - 0.02
    better[::10] = np.nan
    names = [f"{chance}_{depth}" for chance in ("skip", "like", "add") for depth in (5, 10)]
    by_method = {
        "good": dict.fromkeys(names, better),
        POPULARITY: dict.fromkeys(names, base),
    }
    found = summarise(by_method, listeners, draws=200, seed=1)
    good = found["good"]
    assert good["answered"] == pytest.approx(0.9)
    assert good["skip_5"]["minus_popularity"] == pytest.approx(-0.02)
    assert good["skip_5"]["minus_popularity_interval"] == pytest.approx((-0.02, -0.02))
    low, high = good["skip_5"]["interval"]
    assert low < good["skip_5"]["value"] < high
    assert high - low > 0.05
    assert found[POPULARITY]["like_10"]["minus_popularity"] == 0
    assert show(found, 5).splitlines()[1].startswith("good")
