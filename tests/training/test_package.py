import json
import shutil
from datetime import timedelta

import pytest

from features import store
from features.params import load_params
from features.snapshots import write_snapshots
from serving.manifest import checksums, read_manifest
from serving.recommender import Recommender
from tests.serving.conftest import AS_OF, write_bundle, write_lake
from training import package
from training.files import write_json
from training.package import busiest, label, manifest
from training.phases import LeakError, Phase, Phases, write_phases

DAY, GAP, TICK = timedelta(days=1), timedelta(minutes=30), timedelta(microseconds=1)
PHASES = Phases(
    Phase(AS_OF - 40 * DAY, AS_OF - 18 * DAY - GAP),
    Phase(AS_OF - 18 * DAY, AS_OF - 9 * DAY - GAP),
    Phase(AS_OF - 9 * DAY, AS_OF - GAP),
    Phase(AS_OF, AS_OF + 9 * DAY),
    AS_OF + 9 * DAY,
)
UNTIL = PHASES.labels.end
PARAMS = load_params()


def say_seen(folder, **seen):
    for name, moment in seen.items():
        text = json.dumps({"seen_until": moment.isoformat()})
        (folder / f"{name}.json").write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return a valid bundle that has seen all that the test cut may."""
    folder = write_bundle(tmp_path_factory.mktemp("bundles") / "whole")
    (folder / "manifest.json").unlink()
    say_seen(folder, fit=UNTIL, ranker_fit=UNTIL)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    """Return a copy that a test may spoil."""
    return shutil.copytree(whole, tmp_path / "bundle")


@pytest.mark.parametrize("name", ["fit", "ranker_fit"])
def test_a_part_that_saw_too_much_is_refused(folder, name):
    say_seen(folder, **{name: UNTIL + TICK})
    with pytest.raises(LeakError, match=f"{name}.json has seen events until"):
        manifest(folder, "test", PHASES, PARAMS, {})
    # To serve, it may have seen everything there is.
    assert manifest(folder, "serving", PHASES, PARAMS, {})["cut"] == "serving"


def test_the_manifest_says_what_is_inside(whole):
    found = manifest(whole, "test", PHASES, PARAMS, {"ndcg_10": 0.1})
    assert found["seen_until"] == UNTIL.isoformat()
    assert found["as_of"] == PHASES.test.start.isoformat()
    assert found["metrics"] == {"ndcg_10": 0.1}
    assert found["checksums"] == checksums(whole)
    assert found["params"]["ranker"]["rounds"] == PARAMS.ranker.rounds
    assert found["version"].startswith(f"{AS_OF:%Y%m%dT%H%M}-")


def test_the_version_names_the_content(folder):
    before = manifest(folder, "test", PHASES, PARAMS, {})["version"]
    assert manifest(folder, "test", PHASES, PARAMS, {"other": 1})["version"] == before
    (folder / "listeners.json").write_text("{}", encoding="utf-8")
    assert manifest(folder, "test", PHASES, PARAMS, {})["version"] != before


@pytest.mark.parametrize(
    ("section", "name", "value"), [("exploration", "temperature", 0.5), ("feedback", "artist", 3.0)]
)
def test_what_only_answers_depend_on_makes_a_version_and_is_served(folder, section, name, value):
    package.write_sections(folder, PARAMS)
    before = manifest(folder, "test", PHASES, PARAMS, {})
    changed = getattr(PARAMS, section).model_copy(update={name: value})
    params = PARAMS.model_copy(update={section: changed})
    package.write_sections(folder, params)
    after = manifest(folder, "test", PHASES, params, {})
    assert after["version"] != before["version"]
    write_json(folder / "manifest.json", after)
    assert getattr(getattr(Recommender.load(folder), section), name) == value


def test_the_command_writes_a_bundle_that_loads(whole, tmp_path, monkeypatch):
    generators, ranker = tmp_path / "generators", tmp_path / "ranker"
    shutil.copytree(whole, generators)
    ranker.mkdir()
    for name in ("ranker.txt", "p_like.txt", "p_skip.txt", "calibration.json", "ranker_fit.json"):
        (generators / name).rename(ranker / name)
    write_lake(tmp_path / "data" / "lake")
    monkeypatch.setenv("SEGUE_DATA", str(tmp_path / "data"))
    write_snapshots(tmp_path / "data" / "lake", tmp_path / "data" / "features", [AS_OF], PARAMS)
    store.apply()
    write_phases(PHASES, tmp_path / "phases.json")
    places = {
        "--cut": "test",
        "--phases": tmp_path / "phases.json",
        "--generators": generators,
        "--ranker": ranker,
        "--users": tmp_path / "data" / "lake" / "users.parquet",
        "--out": tmp_path / "out",
    }
    words = [str(word) for pair in places.items() for word in pair]
    monkeypatch.setattr("sys.argv", ["package", *words])
    moments = []
    monkeypatch.setattr(package, "busiest", lambda ids, at: moments.append(at) or busiest(ids, at))
    package.main()
    # Listeners as of the test's first moment, not as of its end.
    assert moments == [PHASES.features_at("test")]
    assert moments[0] < PHASES.as_of
    assert read_manifest(tmp_path / "out")["cut"] == "test"
    listed = json.loads((tmp_path / "out" / "listeners.json").read_text())["listeners"]
    assert listed == [
        {"user_id": user, "label": "Europe, born 1990, 80 plays"} for user in ("user-1", "user-2")
    ]


def test_a_label_leaves_out_what_is_not_known():
    known = {"birth_year": 1990.0, "region": None, "plays": 3.0}
    assert label(known) == "born 1990, 3 plays"
    assert label({**known, "birth_year": float("nan"), "region": "north"}) == "north, 3 plays"
