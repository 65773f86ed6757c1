import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dags.dvc_graph import Stage, expand, isolated, read_stages, upstream, with_ancestors

DVC_YAML = """
stages:
  simulate:
    cmd: python simulate.py
    deps: [simulate.py]
    outs: [data/raw/simulated, data/truth]
  ingest:
    cmd: python ingest.py
    deps: ["${source.path}", ingest.py]
    outs: [data/lake]
  phases:
    cmd: python phases.py
    deps: [./data/lake/summary.json]
    outs:
      - data/phases.json:
          cache: false
  factors:
    matrix:
      signal: [like, skip]
      cut: [labels, 2]
    cmd: python factors.py
    deps: [data/lake, data/phases.json]
    params: ["signals.${item.signal}"]
    outs: ["data/factors/${item.cut}/${item.signal}.npz"]
  dataset:
    matrix:
      cut: [labels, 2]
    cmd: python dataset.py
    deps: ["data/factors/${item.cut}"]
    outs: ["data/dataset/${item.cut}"]
  evaluate:
    cmd: python evaluate.py
    deps: [data/dataset]
    metrics:
      - reports/metrics.json:
          cache: false
"""
SIMULATED = {"source": {"path": "data/raw/simulated"}, "signals": {"like": 1, "skip": 2}}
ELSEWHERE = {**SIMULATED, "source": {"path": "/somewhere/plays.csv.gz"}}


def expanded(params: dict) -> list[Stage]:
    return expand(yaml.safe_load(DVC_YAML), params)


def run(*command: str, cwd: Path) -> str:
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "dvc.yaml").write_text(DVC_YAML, encoding="utf-8")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(SIMULATED), encoding="utf-8")
    run("dvc", "init", "--no-scm", "--quiet", cwd=tmp_path)
    return tmp_path


def test_a_matrix_gives_a_stage_for_each_combination_in_order():
    names = [stage.name for stage in expanded(SIMULATED)]
    assert names == [
        "simulate",
        "ingest",
        "phases",
        "factors@like-labels",
        "factors@like-2",
        "factors@skip-labels",
        "factors@skip-2",
        "dataset@labels",
        "dataset@2",
        "evaluate",
    ]


def test_templates_are_filled_and_paths_normalised():
    stages = {stage.name: stage for stage in expanded(SIMULATED)}
    assert stages["factors@skip-2"].outs == ("data/factors/2/skip.npz",)
    assert stages["factors@skip-2"].group == "factors"
    assert stages["factors@skip-2"].instance == "skip-2"
    assert stages["ingest"].open_deps == ("data/raw/simulated",)
    assert stages["ingest"].deps == ("ingest.py",)
    assert stages["phases"].deps == ("data/lake/summary.json",)
    assert stages["phases"].outs == ("data/phases.json",)
    assert stages["evaluate"].outs == ("reports/metrics.json",)


def test_edges_follow_folders_and_files_within_them():
    before = upstream(expanded(SIMULATED))
    assert before["simulate"] == set()
    assert before["ingest"] == {"simulate"}
    assert before["phases"] == {"ingest"}
    assert before["factors@like-labels"] == {"ingest", "phases"}
    assert before["dataset@labels"] == {"factors@like-labels", "factors@skip-labels"}
    assert before["evaluate"] == {"dataset@labels", "dataset@2"}


def test_a_path_that_merely_begins_alike_is_no_edge():
    document = {
        "stages": {
            "a": {"cmd": "a", "outs": ["data/lake"]},
            "b": {"cmd": "b", "deps": ["data/lake2", "data/lak"]},
        }
    }
    assert upstream(expand(document, {}))["b"] == set()


def test_the_order_does_not_depend_on_params_but_what_is_needed_does():
    assert upstream(expanded(ELSEWHERE)) == upstream(expanded(SIMULATED))
    assert isolated(expanded(SIMULATED)) == set()
    assert isolated(expanded(ELSEWHERE)) == {"simulate"}


def test_with_ancestors_takes_groups_and_names_and_keeps_the_order():
    stages = expanded(SIMULATED)
    assert [s.name for s in with_ancestors(stages, ["ingest"])] == ["simulate", "ingest"]
    assert [s.name for s in with_ancestors(stages, ["dataset@2"])] == [
        "simulate",
        "ingest",
        "phases",
        "factors@like-2",
        "factors@skip-2",
        "dataset@2",
    ]
    assert with_ancestors(stages, ["evaluate"]) == stages


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"foreach": [1], "do": {}}, "foreach"),
        ({"cmd": "x", "wdir": "sub"}, "wdir"),
        ({"cmd": "x", "matrix": {"a": [{"b": 1}]}}, "text and integers"),
        ({"cmd": "x", "deps": ["${no.such}"]}, r"no\.such"),
    ],
)
def test_what_is_not_known_is_refused(stage: dict, message: str):
    with pytest.raises(ValueError, match=message):
        expand({"stages": {"one": stage}}, SIMULATED)


def test_names_agree_with_dvc(repository: Path):
    listed = run("dvc", "stage", "list", "--name-only", cwd=repository).split()
    assert sorted(stage.name for stage in read_stages(repository)) == sorted(listed)


def test_edges_agree_with_dvc(repository: Path):
    drawn = run("dvc", "dag", "--dot", cwd=repository)
    edges = {tuple(pair) for pair in re.findall(r'"([^"]+)" -> "([^"]+)"', drawn)}
    before = upstream(read_stages(repository))
    assert edges == {(other, name) for name, others in before.items() for other in others}
