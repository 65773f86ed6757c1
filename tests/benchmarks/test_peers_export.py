"""What methods may see of a cut, and that the answers are not among it."""

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks.peers import export as exporting
from benchmarks.peers import tune
from benchmarks.peers.data import encode, encode_queries, read_cut, seconds
from benchmarks.peers.export import plays, questions, truth
from benchmarks.peers.files import Folder
from benchmarks.peers.lists import write_tops
from benchmarks.peers.ranking import padded
from benchmarks.peers.run import (
    final_answers,
    is_done,
    kept_run,
    run_single,
    stamp,
    write_answers,
)
from benchmarks.peers.tune import refuse_other_cuts
from features.params import load_params
from tests.benchmarks.peers_world import T0, heard, labelled, write_cut
from tests.training import tiny
from tests.training.test_leaks import PHASES
from training.metrics import NEXT, START


def test_fits_see_listenings_before_their_moment_only(tmp_path):
    events = [
        tiny.event(1, tiny.START, "x1", "a", played_ms=2000),
        tiny.event(2, tiny.START + tiny.MINUTE, "x1", "b", "skip", played_ms=1000),
        tiny.event(3, tiny.START + tiny.MINUTE, "x1", "b", "like"),
        tiny.event(4, tiny.START, "x3", "c", received_ts=tiny.START + tiny.DAY),
        tiny.event(5, tiny.START + tiny.DAY, "x2", "c"),
    ]
    tiny.write_lake(tmp_path, events, [tiny.user("u0")], [tiny.song(s) for s in "abc"])
    seen = plays(tmp_path, tiny.START + tiny.DAY)
    assert seen["song_id"].tolist() == ["a", "b"]
    assert seen["seconds"].tolist() == [2.0, 1.0]


def test_questions_hold_no_answer_and_truth_tells_how_it_was_met():
    user = {"history_songs": ["z"], "history_last_ts": [5], "history_plays": [2]}
    queries = [
        labelled(0, [], "b", ("b", "a", "b"), user),
        labelled(1, ["a"], "b", ("b",)),
        labelled(2, ["b"], "a", ("a",)),
        labelled(3, ["a"], "d", ("d",)),
    ]
    asked = questions(queries)
    assert set(asked) == {
        *("query_id", "user_id", "ts", "session"),
        *("history_songs", "history_last_ts", "history_plays"),
    }
    assert asked["history_songs"].tolist() == [["z"], [], [], []]
    known = truth(queries, heard(["a", "b"], ["b", "c", "d"]))
    assert known["task"].tolist() == [START, NEXT, NEXT, NEXT]
    assert known["rest"].iloc[0] == ["b", "a"]
    assert known["met"].tolist() == [
        "start",
        "followed it before",
        "shared a session",
        "never met it",
    ]


def test_plays_become_sessions_in_the_order_of_their_end():
    frame = heard(["a", "b"], ["c"]).iloc[::-1].sort_values("session_id", ascending=False)
    frame = frame.sort_values(["session_id", "ts"], ascending=[False, True], ignore_index=True)
    seen = encode(frame, pd.Index(["a", "b", "c"]), pd.Index(["u0", "u1"]))
    assert seen.song.tolist() == [0, 1, 2]
    assert seen.session.tolist() == [0, 0, 1]
    assert seen.user.tolist() == [0, 0, 1]
    assert (np.diff(seen.ts) > 0).all()


def test_unknown_songs_and_listeners_are_left_out_of_questions():
    asked = questions([labelled(0, ["a", "nobody", "b"], "b", ("b",))])
    asked["ts"] = pd.to_datetime(asked["ts"]).astype("datetime64[us, UTC]")
    (one,) = encode_queries(asked, pd.Index(["a", "b"]), pd.Index(["u9"]))
    assert one.session.tolist() == [0, 1]
    assert one.user == -1
    assert one.ts == T0.timestamp() == seconds(asked["ts"])[0]


@pytest.fixture
def folder(tmp_path):
    return write_cut(Folder(tmp_path))


def test_methods_read_nothing_hidden_and_keep_what_they_have_answered(folder):
    folder.truth("test").unlink()
    cut = read_cut(folder)
    policy = {"session": False, "own": 0.0}
    tasks = {task: {"settings": {"fill": 0}, "policy": policy} for task in (NEXT, START)}
    run = run_single("transitions", tasks, cut)
    found = final_answers(run.tops["test"], tasks, cut)
    key = stamp(folder, tasks, {})
    write_answers(folder, "transitions", found, cut, {"stamp": key})
    answers = pd.read_parquet(folder.answers("transitions"))
    first = answers[answers["rank"] == 1].set_index("query_id")["song_id"]
    assert first["q0"] == "b"
    assert "a" not in set(answers[answers["query_id"] == "q0"]["song_id"])
    assert is_done(folder, "transitions", key)
    assert not is_done(folder, "transitions", stamp(folder, {}, {}))
    assert not is_done(folder, "STAN", key)


def test_a_changed_policy_needs_no_new_fit(folder):
    cut = read_cut(folder)
    tasks = {
        task: {"settings": {"fill": 0}, "policy": {"session": True, "own": 0.0}}
        for task in (NEXT, START)
    }
    assert kept_run(folder, "transitions", tasks) is None
    run = run_single("transitions", tasks, cut)
    write_tops(folder, "transitions", run)
    facts = {"tasks": tasks, "stamp": stamp(folder, tasks, {}), "fit_seconds": 2.0, "predict_ms": 1}
    write_answers(folder, "transitions", run.tops["test"].songs[:, :20], cut, facts)
    other = {task: {**one, "policy": {"session": False, "own": 1.0}} for task, one in tasks.items()}
    kept = kept_run(folder, "transitions", other)
    assert kept is not None
    np.testing.assert_array_equal(kept.tops["test"].songs, run.tops["test"].songs)
    assert kept.fit_seconds == 2.0
    assert kept.predict_seconds == pytest.approx(0.002)
    tasks[START] = {**tasks[START], "settings": {"fill": 1}}
    assert kept_run(folder, "transitions", tasks) is None


def test_songs_of_the_session_can_be_barred_whatever_the_policy(folder):
    cut = read_cut(folder)
    tasks = {task: {"policy": {"session": True, "own": 0.0}} for task in (NEXT, START)}
    song = {name: code for code, name in enumerate(cut.song_ids)}
    # The first query's session holds `a`.
    listed = padded(np.array([[song["a"], song["b"]]] * 2), np.ones((2, 2)))
    free = final_answers(listed, tasks, cut)
    barred = final_answers(listed, tasks, cut, repeats=False)
    assert free[0, :2].tolist() == [song["a"], song["b"]]
    assert barred[0, 0] == song["b"]
    assert song["a"] not in barred[0]
    assert barred[1].tolist() == free[1].tolist()


def test_tuning_is_refused_on_any_cut_but_the_validation(folder, monkeypatch):
    with pytest.raises(ValueError, match="validation cut"):
        refuse_other_cuts(folder)
    monkeypatch.setattr("sys.argv", ["tune", "--cut", str(folder.root), "--methods", "popularity"])
    with pytest.raises(ValueError, match="validation cut"):
        tune.main()
    folder.manifest.write_text(json.dumps({"as_of": "2014-11-27T10:29:45+00:00"}))
    refuse_other_cuts(folder)


def test_methods_see_the_plays_that_segues_fits_saw(tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "phase_queries", lambda lake, phases, phase, *_: [])
    monkeypatch.setattr(exporting, "read_songs", lambda lake: [])
    monkeypatch.setattr(exporting, "truth", lambda queries, heard: heard)

    def plays(lake, until):
        return pd.DataFrame({"until": [until]})

    monkeypatch.setattr(exporting, "plays", plays)
    where = Folder(tmp_path)
    exporting.export(tmp_path, PHASES, load_params(), where)
    until = {fit: pd.read_parquet(where.plays(fit))["until"][0] for fit in ("history", "all")}
    assert until == {"history": PHASES.earlier.end, "all": PHASES.labels.end}
