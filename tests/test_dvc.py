"""The training graph as DVC sees it: what stages name, and what re-runs when."""

import ast
import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from training.gate import behind

PROJECT = Path(__file__).resolve().parents[1]
PACKAGES = ("features", "serving", "training", "simulation")
PARTS = (*PACKAGES, ".dvc/config", ".dvc/plots", ".dvc/.gitignore", ".dvcignore", ".gitignore")
TINY = (
    "source.name=simulated",
    "source.path=data/raw/simulated",
    "simulation.size=tiny",
    "phases.as_of=null",
    "features.snapshots_per_phase=0",
    "ranker.max_queries=400",
    "ranker.rounds=40",
    "evaluation.max_queries=300",
    "evaluation.bootstrap=20",
)
STAGES = yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


def module_file(module: str) -> Path | None:
    path = PROJECT.joinpath(*module.split("."))
    if path.is_dir():
        return path / "__init__.py"
    return path.with_suffix(".py") if path.with_suffix(".py").exists() else None


def imports_of(file: Path) -> set[str]:
    """Return the modules named by a file's import statements, wherever they stand."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if name.partition(".")[0] in PACKAGES}


def files_read(module: str) -> set[str]:
    """Return the files of our packages that running a module reads: a naive walk."""
    pending, files = [module], set()
    while pending:
        name = pending.pop()
        file = module_file(name)
        if file is None or file in files:
            continue
        files.add(file)
        pending += [*imports_of(file), name.rpartition(".")[0] or name]
    return {file.relative_to(PROJECT).as_posix() for file in files}


def code_of(stage: dict[str, Any]) -> set[str]:
    return {dep for dep in stage["deps"] if dep.partition("/")[0] in PACKAGES}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_names_all_code_it_imports_and_no_other(name):
    stage = STAGES[name]
    module = re.search(r"python -m ([\w.]+)", stage["cmd"])[1]
    read = files_read(f"{module}.__main__" if module == "simulation" else module)
    declared = code_of(stage)
    folders = {dep for dep in declared if (PROJECT / dep).is_dir()}
    for dep in declared:
        assert (PROJECT / dep).exists(), f"{name} names {dep}, which does not exist"
        if dep != "features/repo":
            used = any(path == dep or path.startswith(f"{dep}/") for path in read)
            assert used, f"{name} names {dep}, which it does not import"
    covered = {path for path in read if any(path.startswith(f"{f}/") for f in folders)}
    # A package's own file counts where it holds more than a docstring.
    idle = {path for path in read if len(ast.parse((PROJECT / path).read_text()).body) <= 1}
    missing = read - covered - declared - {path for path in idle if path.endswith("__init__.py")}
    assert not missing, f"{name} imports {missing}: python -m training.stage_deps --write"
    assert ("features/repo" in declared) == ("features/registered.py" in declared)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_names_only_parameters_that_exist(name):
    params = yaml.safe_load((PROJECT / "params.yaml").read_text(encoding="utf-8"))
    for entry in STAGES[name].get("params", []):
        for signal in params["signals"] if isinstance(entry, str) else ():
            section = params
            for key in entry.replace("${item.signal}", signal).split("."):
                section = section[key]


def test_every_stage_stays_in_the_checkouts_data():
    for name, stage in STAGES.items():
        assert stage["cmd"].startswith("SEGUE_DATA=data python -m "), name


def test_dvc_is_quiet_and_its_remote_lies_beside_the_checkout():
    config = configparser.ConfigParser()
    config.read(PROJECT / ".dvc" / "config", encoding="utf-8")
    assert config["core"]["analytics"] == "false"
    assert config["core"]["check_update"] == "false"
    url = config[f"""'remote "{config["core"]["remote"]}"'"""]["url"]
    remote = (PROJECT / ".dvc" / url).resolve()
    assert remote.parent == PROJECT.parent


def run(*command: str, cwd: Path) -> str:
    """Run a command and return what it printed; a failure shows all of it."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # The checkout's own packages come first, not those installed in the environment.
    env = {name: value for name, value in os.environ.items() if not name.startswith("SEGUE_")}
    # What the caller's shell says of places must not lead out of the checkout.
    elsewhere = str(cwd / "elsewhere") if command[:2] == ("dvc", "repro") else "data"
    env |= {"PATH": path, "PYTHONPATH": str(cwd), "PYTHONWARNINGS": "ignore"}
    env["SEGUE_DATA"] = elsewhere
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command} failed:\n{(done.stdout + done.stderr)[-5000:]}"
    return done.stdout


def commit(project: Path, message: str) -> None:
    run("git", "add", "--all", cwd=project)
    who = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    run("git", *who, "commit", "--quiet", "--no-verify", "-m", message, cwd=project)


def changed_stages(project: Path) -> set[str]:
    """Return the stages that have to run before any other has."""
    return set(json.loads(run("dvc", "status", "--json", cwd=project)))


def set_params(project: Path, *assignments: str) -> None:
    run("python", "-m", "training.set_params", *assignments, cwd=project)


def copied(project: Path) -> Path:
    """Copy what the graph needs into a repository of its own."""
    for part in (*PARTS, "dvc.yaml", "params.yaml"):
        source, target = PROJECT / part, project / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    run("git", "init", "--quiet", cwd=project)
    return project


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkout in which `dvc repro` has run on tiny data, its lock committed."""
    project = copied(tmp_path_factory.mktemp("dvc") / "checkout")
    set_params(project, *TINY)
    run("dvc", "repro", cwd=project)
    commit(project, "Train on tiny data")
    return project


@pytest.fixture
def checkout(trained: Path) -> Iterator[Path]:
    """Return the trained checkout, and put back what a test changes in it."""
    yield trained
    run("git", "reset", "--hard", "--quiet", cwd=trained)
    run("dvc", "checkout", "--quiet", cwd=trained)


@pytest.mark.slow
def test_a_second_run_does_nothing(checkout):
    assert changed_stages(checkout) == set()
    assert "Running stage" not in run("dvc", "repro", cwd=checkout)
    assert run("git", "status", "--porcelain", cwd=checkout) == ""


@pytest.mark.slow
def test_an_import_that_is_refused_leaves_the_lake(tmp_path):
    project, events = copied(tmp_path / "checkout"), tmp_path / "mine" / "events-1.csv"
    events.parent.mkdir()
    events.write_text("ts,user_id,song_id\n2024-05-01T18:00:00Z,ann,a\n", encoding="utf-8")
    set_params(project, "source.name=files", f"source.path={events.parent}")
    run("dvc", "repro", "ingest", cwd=project)
    lake = project / "data" / "lake"
    before = {path: path.read_bytes() for path in lake.rglob("*") if path.is_file()}
    another = events.with_name("events-2.csv")
    another.write_text("ts,user_id,song_id\nsome day,ann,a\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="as it was"):
        run("dvc", "repro", "ingest", cwd=project)
    assert {path: path.read_bytes() for path in lake.rglob("*") if path.is_file()} == before
    another.unlink()
    assert "ingest" not in changed_stages(project)


@pytest.mark.slow
def test_a_signals_parameter_changes_that_signals_factors_and_no_others(checkout):
    set_params(checkout, "signals.like.alpha=21.5")
    cuts = ("earlier", "labels", "test", "serving")
    factors = {f"factors@like-{cut}" for cut in cuts}
    # These write the parameters down; the rest follows from what they and the factors give.
    settings = {*(f"generators@{cut}" for cut in cuts), "bundle_test", "bundle_serving"}
    assert changed_stages(checkout) == factors | settings
    planned = run("dvc", "repro", "--dry", "factors", cwd=checkout)
    assert set(re.findall(r"Running stage '(.+)'", planned)) == factors


@pytest.mark.slow
def test_a_helper_modules_change_reaches_every_stage_that_imports_it(checkout):
    helper = checkout / "training" / "sessions.py"
    helper.write_text(helper.read_text(encoding="utf-8") + "\n# Changed.\n", encoding="utf-8")
    readers = {name for name, stage in STAGES.items() if "training/sessions.py" in stage["deps"]}
    assert {name.partition("@")[0] for name in changed_stages(checkout)} == readers


@pytest.mark.slow
def test_data_from_elsewhere_needs_no_simulation(checkout, tmp_path):
    elsewhere = tmp_path / "mine"
    shutil.copytree(checkout / "data" / "raw" / "simulated", elsewhere)
    set_params(checkout, "source.name=files", f"source.path={elsewhere}")
    planned = run("dvc", "repro", "--dry", "bundle_serving", cwd=checkout)
    assert "'ingest'" in planned
    assert "'simulate'" not in planned


@pytest.mark.slow
def test_what_is_pushed_comes_back_in_a_clone_beside(checkout):
    run("dvc", "push", "--quiet", cwd=checkout)
    clone = checkout.parent / "clone"
    run("git", "clone", "--quiet", str(checkout), str(clone), cwd=checkout)
    run("dvc", "pull", "--quiet", cwd=clone)
    assert changed_stages(clone) == set()
    files = [path for path in (checkout / "data" / "bundles").rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert (clone / path.relative_to(checkout)).read_bytes() == path.read_bytes()


@pytest.mark.slow
def test_the_plots_are_filled_in_and_name_columns_that_exist(checkout):
    plots = json.loads(run("dvc", "plots", "show", "--json", cwd=checkout))["data"]
    listed = yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))["plots"]
    assert set(plots) == {name for entry in listed for name in entry}
    for name, (plot,) in plots.items():
        text = plot["content"] if isinstance(plot["content"], str) else json.dumps(plot["content"])
        columns = set(json.loads(text)["data"]["values"][0]) if "values" in text else set()
        data = plot.get("anchor_definitions", {}).get("<DVC_METRIC_DATA>")
        columns |= set((json.loads(data) if isinstance(data, str) else data or [{}])[0])
        named = set(re.findall(r'"field": "(\w+)"', text)) - {"most", "label", "panel", "strength"}
        assert named <= columns, name


@pytest.mark.slow
def test_an_experiment_shows_in_metrics_and_parameters(checkout):
    run("dvc", "exp", "run", "--set-param", "ranker.num_leaves=5", "evaluate", cwd=checkout)
    changed = json.loads(run("dvc", "params", "diff", "--json", cwd=checkout))["params.yaml"]
    assert changed.keys() == {"ranker.num_leaves"}
    assert (changed["ranker.num_leaves"]["old"], changed["ranker.num_leaves"]["new"]) == (31, 5)
    metrics = json.loads(run("dvc", "metrics", "diff", "--json", cwd=checkout))
    assert metrics["data/report/metrics.json"]["next_song.ndcg_10"]["diff"] != 0
    assert "ndcg_10" in run("dvc", "exp", "show", "--csv", cwd=checkout)


@pytest.mark.slow
def test_the_bundle_carries_what_the_gate_reads(checkout):
    report = checkout / "data" / "report"
    lost = behind(pd.read_csv(report / "methods.csv"))
    manifest = checkout / "data" / "bundles" / "serving" / "manifest.json"
    for figures in (
        json.loads((report / "metrics.json").read_text(encoding="utf-8")),
        json.loads(manifest.read_text(encoding="utf-8"))["metrics"],
    ):
        assert figures["gate"] == {"behind": len(lost)}
