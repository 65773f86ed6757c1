"""The search keeps what was best, after each trial, and each task its own."""

import json

import pytest

from benchmarks.peers.combined import COMBINED, answer_tasks
from benchmarks.peers.data import read_cut
from benchmarks.peers.files import TUNED, Folder
from benchmarks.peers.lists import write_tops
from benchmarks.peers.methods import METHODS
from benchmarks.peers.ranking import POLICIES, Policy
from benchmarks.peers.run import run_combined, run_single, without, write_answers
from benchmarks.peers.tune import (
    TRIALS,
    Judge,
    Search,
    read_tuned,
    tune_combined,
    tune_single,
    tuned_elsewhere,
)
from tests.benchmarks.peers_world import write_cut
from training.metrics import NEXT, START, TASKS


def test_each_task_keeps_its_best_trial_and_all_values():
    search = Search({})
    search.add(
        dict.fromkeys(TASKS, {"a": 1}), {NEXT: (0.2, {"own": 0.0}), START: (0.5, {"own": 1.0})}, 2.0
    )
    search.add(
        dict.fromkeys(TASKS, {"a": 2}), {NEXT: (0.3, {"own": 0.1}), START: (0.4, {"own": 0.0})}, 3.0
    )
    facts = search.facts()
    assert facts["cpu_seconds"] == 5.0
    assert facts["tasks"][NEXT]["settings"] == {"a": 2}
    assert facts["tasks"][START]["settings"] == {"a": 1}
    assert facts["tasks"][START]["policy"] == {"own": 1.0}
    assert facts["tasks"][NEXT]["trials"] == [0.2, 0.3]


@pytest.fixture
def judge(tmp_path):
    folder = write_cut(Folder(tmp_path / "cut"))
    return folder, Judge.of(folder, read_cut(folder))


def test_methods_are_tuned_run_and_then_combined(judge, tmp_path):
    folder, judged = judge
    out = tmp_path / "tuned.json"
    names = ["transitions", "STAN", "SKNN"]
    for name in names:
        tune_single(name, 2, judged, out)
        # Asked for more, the search goes on where it stopped.
        tune_single(name, 3, judged, out)
        tasks = json.loads(out.read_text())[name]["tasks"]
        assert len(tasks[NEXT]["trials"]) == 3
        assert tasks[NEXT]["value"] == max(tasks[NEXT]["trials"])
        run = run_single(name, tasks, judged.cut)
        write_tops(folder, name, run)
        facts = {"stamp": "", "fit_seconds": 1.0, "predict_ms": 0.5}
        write_answers(folder, name, run.tops["test"].songs[:, :20], judged.cut, facts)
    tune_combined("RRF of three", 2, folder, judged, out)
    tuned = json.loads(out.read_text())["RRF of three"]["tasks"]
    assert all(sorted(tuned[task]["settings"]["names"]) == sorted(names) for task in TASKS)
    run = run_combined("RRF of three", folder, judged.cut, tuned)
    assert run.fit_seconds >= 3.0
    assert run.predict_seconds == pytest.approx(3 * 0.5 * 2 / 1000)
    assert set(COMBINED) == {"RRF of three", "two-stage"}


def test_on_labels_the_fit_is_the_history_and_the_settings_known_elsewhere_come_first(
    judge, tmp_path
):
    folder, on_test = judge
    out, known = tmp_path / "labels.json", tmp_path / "known.json"
    judged = Judge.of(folder, on_test.cut, "labels")
    assert judged.cut.plays(judged.phase) is judged.cut.history
    assert len(judged.queries) == len(judged.cut.labels) == len(judged.truth)
    tasks = {NEXT: {"settings": {"last": 2}}, START: {"settings": {"last": 2}}}
    known.write_text(json.dumps({"transitions": {"tasks": tasks}}))
    first = tuned_elsewhere("transitions", known)
    assert first == [{"last": 2}]
    assert tuned_elsewhere("STAN", known) == []
    tune_single("transitions", 2, judged, out, first)
    assert len(json.loads(out.read_text())["transitions"]["tasks"][NEXT]["trials"]) == 3


def test_the_two_stage_model_is_not_asked_what_it_learns_from(judge):
    folder, judged = judge
    settings = dict.fromkeys(TASKS, {"names": []})
    with pytest.raises(ValueError, match="learns from the label queries"):
        answer_tasks("two-stage", folder, judged.cut, settings, "labels")


def test_what_is_recorded_can_be_run():
    """Every single method's settings come from its space, and none had more trials than others."""
    for name, facts in read_tuned(TUNED).items():
        for task in TASKS:
            tuned = facts["tasks"][task]
            assert len(tuned["trials"]) <= TRIALS
            assert tuned["value"] == max(tuned["trials"])
            assert Policy(**tuned["policy"]) in POLICIES
            if name in METHODS:
                space = METHODS[name].space
                assert all(value in space[key] for key, value in tuned["settings"].items()), name


def test_members_that_are_left_out_are_no_part_of_the_combined():
    tuned = {NEXT: {"settings": {"names": ["a", "b", "c"], "constant": 1.0}, "policy": {}}}
    found = without(tuned, ["b", "x"])
    assert found == {NEXT: {"settings": {"names": ["a", "c"], "constant": 1.0}, "policy": {}}}
    assert tuned[NEXT]["settings"]["names"] == ["a", "b", "c"]
