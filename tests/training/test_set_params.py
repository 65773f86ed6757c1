import shutil

import pytest
import yaml

from features.mistakes import Mistake
from features.params import load_params
from features.paths import PROJECT
from training import set_params


@pytest.fixture
def params(tmp_path):
    """Return a copy of the real params.yaml."""
    return shutil.copy(PROJECT / "params.yaml", tmp_path / "params.yaml")


@pytest.fixture
def assign(params, monkeypatch):
    """Run the command with assignments."""

    def run(*assignments):
        monkeypatch.setattr("sys.argv", ["set", "--params", str(params), *assignments])
        set_params.main()

    return run


@pytest.fixture
def refused(params, assign):
    """Run the command with assignments that leave the file as it was; return what it says."""

    def run(*assignments):
        before = params.read_bytes()
        with pytest.raises(Mistake) as told:
            assign(*assignments)
        assert params.read_bytes() == before
        return str(told.value)

    return run


def test_only_the_line_of_the_key_changes(params, assign):
    before = params.read_text().splitlines()
    assign("simulation.seed=8")
    after = params.read_text().splitlines()
    changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    assert changed == [("  seed: 7", "  seed: 8")]
    assert load_params(params).simulation.seed == 8


def test_several_keys_of_several_kinds(params, assign):
    assign(
        "source.name=files",
        f"source.path={params.parent}",
        "source.columns={events: {ts: time}}",
        "phases.as_of=2024-01-01T12:00:00Z",
        "signals.like.window_days=30",
    )
    found = load_params(params)
    assert found.source.name == "files"
    assert found.source.columns == {"events": {"ts": "time"}}
    assert found.phases.as_of.isoformat() == "2024-01-01T12:00:00+00:00"
    assert found.signals["like"].window_days == 30
    assert "# simulated | 30music | files" in params.read_text()


@pytest.mark.parametrize(
    "key", ["simulation.sead", "simulatoin.seed", "seed", "simulation.seed.deep", "phases.as_of.x"]
)
def test_unknown_keys_are_refused(refused, key):
    assert f"no key `{key}`" in refused(f"{key}=1")


@pytest.mark.parametrize(
    "assignment", ["phases.labels_share=2", "simulation.size=huge", "ranker.rounds=many"]
)
def test_an_invalid_value_leaves_the_file_alone(params, refused, assignment):
    (line,) = refused("simulation.seed=9", assignment).splitlines()
    assert f"{params} is not valid, mend these keys:  {assignment.partition('=')[0]}: " in line
    assert list(params.parent.iterdir()) == [params]


def test_a_moment_stays_text_that_dvc_can_hash(params, assign):
    assign("phases.as_of=2024-01-01T12:00:00Z")
    assert yaml.safe_load(params.read_text())["phases"]["as_of"] == "2024-01-01T12:00:00Z"


def test_what_changes_nothing_is_not_written(params, assign):
    before = params.stat()
    assign("simulation.seed=7")
    assert params.stat().st_mtime_ns == before.st_mtime_ns
    assert params.stat().st_ino == before.st_ino


def test_a_word_without_a_value_is_refused(params, assign, capsys):
    with pytest.raises(SystemExit):
        assign("simulation.seed")
    assert "not KEY=VALUE" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["[old] music", "@home", "{"])
def test_a_value_that_is_no_yaml_is_refused_with_a_sentence(refused, value):
    assert f"`source.path`, {value}, is no YAML" in refused(f"source.path={value}")


def test_a_path_that_leads_nowhere_is_refused_unless_the_simulator_makes_it(
    params, assign, refused, tmp_path
):
    told = refused("source.name=files", f"source.path={tmp_path / 'nope'}")
    assert told == f"{params} is as it was. There is nothing at {tmp_path / 'nope'}."
    assign("source.name=files", f"source.path={tmp_path}")
    told = refused("source.name=simulated", f"source.path={tmp_path / 'nope'}")
    assert "nope. The simulator writes data/raw/simulated." in told
    assign("source.name=simulated", f"source.path={tmp_path}")
    assign("source.name=simulated", "source.path=data/raw/simulated")
    # Whatever else is set is no matter of the path; another source is.
    assign("ranker.seed=8")
    assert "There is nothing" in refused("source.name=files")
    assert not params.with_suffix(".new").exists()


def test_a_file_that_is_no_yaml_is_told(params, assign):
    params.write_text("source:\n\tname: files\n")
    with pytest.raises(Mistake, match="is no YAML, mend it"):
        assign("source.name=files")
