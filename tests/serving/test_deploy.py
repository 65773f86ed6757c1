"""Installing bundles and changing the served one under readers."""

import json
import re
import shutil
import threading
from datetime import UTC, datetime

import pytest

from serving import deploy
from serving.deploy import install, point, taken_back
from serving.manifest import BundleError, read_manifest
from tests.serving.conftest import write_manifest


@pytest.fixture
def served(tmp_path):
    folder = tmp_path / "deployed"
    folder.mkdir()
    return folder


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_bundle_is_installed_whole_under_its_version(bundle, served):
    target = install(bundle, served)
    assert target == served / "test-1"
    assert content(target) == content(bundle)
    assert [path.name for path in served.iterdir()] == ["test-1"]


def test_installing_twice_leaves_the_first_as_it_is(bundle, served):
    target = install(bundle, served)
    before = {path.name: path.stat().st_mtime_ns for path in target.iterdir()}
    inode = target.stat().st_ino
    assert install(bundle, served) == target
    assert {path.name: path.stat().st_mtime_ns for path in target.iterdir()} == before
    assert target.stat().st_ino == inode


def test_other_content_under_an_installed_version_is_refused(bundle, served, copy_bundle):
    target = install(bundle, served)
    other = copy_bundle("other")
    (other / "listeners.json").write_text("{}")
    write_manifest(other, "test-1")
    with pytest.raises(BundleError, match="test-1 holds another bundle of that version; remove"):
        install(other, served)
    assert content(target) == content(bundle)


def test_a_second_deployment_waits_for_the_first(bundle, served, monkeypatch):
    second, copytree, started = [], shutil.copytree, threading.Event()

    def deployed():
        with deploy.alone_in(served):
            install(bundle, served)

    def slow(source, target):
        if not started.is_set():
            started.set()
            second.append(threading.Thread(target=deployed))
            second[0].start()
        return copytree(source, target)

    monkeypatch.setattr(deploy.shutil, "copytree", slow)
    deployed()
    second[0].join()
    assert content(served / "test-1") == content(bundle)
    assert [path.name for path in served.iterdir()] == ["test-1"]


def test_where_a_damaged_copy_cannot_be_replaced_it_stays(bundle, served, monkeypatch):
    target = install(bundle, served)
    (target / "ranker.txt").write_text("tree")
    rename = type(target).rename

    def full_disk(path, to):
        if path.name.endswith(".part"):
            raise OSError("No space left on device")
        return rename(path, to)

    monkeypatch.setattr(type(target), "rename", full_disk)
    with pytest.raises(BundleError, match="No space left"):
        install(bundle, served)
    assert [path.name for path in served.iterdir()] == ["test-1"]


@pytest.mark.parametrize("name", ["ranker.txt", "manifest.json"])
def test_a_damaged_copy_is_replaced(bundle, served, name):
    target = install(bundle, served)
    (target / name).write_text("tree")
    assert install(bundle, served) == target
    assert content(target) == content(bundle)
    assert [path.name for path in served.iterdir()] == ["test-1"]


def test_a_damaged_bundle_is_not_installed(served, copy_bundle):
    damaged = copy_bundle("damaged")
    (damaged / "ranker.txt").write_text("tree")
    with pytest.raises(BundleError, match=r"ranker\.txt"):
        install(damaged, served)
    assert list(served.iterdir()) == []


def test_a_bundle_that_cannot_answer_is_not_deployed(served, copy_bundle, monkeypatch, capsys):
    point(served / "current", install(copy_bundle("v1"), served))
    broken = copy_bundle("v2")
    curve = {"raw": [], "share": []}
    (broken / "calibration.json").write_text(json.dumps({"p_like": curve}))
    write_manifest(broken, "v2")
    monkeypatch.setenv("SEGUE_BUNDLE", str(served / "current"))
    monkeypatch.setattr("sys.argv", ["deploy", "--bundle", str(broken)])
    with pytest.raises(SystemExit, match="2"):
        deploy.main()
    assert re.search("Nothing was deployed.*v2 cannot be used", capsys.readouterr().err)
    assert (served / "current").resolve().name == "v1"
    assert {path.name for path in served.iterdir()} == {"current", "v1"}


def test_a_remainder_of_a_broken_install_is_in_nobodys_way(bundle, served, monkeypatch):
    def full_disk(source, target):
        target.mkdir()
        shutil.copy(source / "settings.json", target)
        raise OSError("No space left on device")

    for name in (".test-1.part", ".other.part", ".other.damaged"):
        (served / name).mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(deploy.shutil, "copytree", full_disk)
        with pytest.raises(BundleError, match="could not be copied.*No space left"):
            install(bundle, served)
    assert list(served.iterdir()) == []
    assert content(install(bundle, served)) == content(bundle)


def test_a_reader_sees_the_old_or_the_new_bundle_at_any_moment(served, copy_bundle):
    versions = [install(copy_bundle(name), served) for name in ("v1", "v2")]
    link = served / "current"
    point(link, versions[0])
    seen, faults, done = set(), [], threading.Event()

    def read():
        while not done.is_set():
            try:
                seen.add(read_manifest(link.resolve(strict=True))["version"])
            except (OSError, BundleError) as error:
                faults.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    turns = 0
    while turns < 200 or (len(seen) < 2 and not faults):
        point(link, versions[turns % 2])
        turns += 1
    done.set()
    reader.join()
    assert not faults
    assert seen == {"v1", "v2"}


def test_the_link_is_relative_so_that_the_folder_can_move(bundle, served, tmp_path):
    point(served / "current", install(bundle, served))
    moved = served.rename(tmp_path / "moved")
    assert read_manifest(moved / "current")["version"] == "test-1"


def test_a_link_left_by_a_broken_deploy_is_replaced(bundle, served):
    target = install(bundle, served)
    point(served / "current", target)
    (served / "current").rename(served / ".current.part")
    point(served / "current", target)
    assert (served / "current").resolve() == target.resolve()
    assert sorted(path.name for path in served.iterdir()) == ["current", "test-1"]


def run_main(monkeypatch, data, *arguments):
    monkeypatch.setenv("SEGUE_DATA", str(data))
    monkeypatch.delenv("SEGUE_BUNDLE", raising=False)
    monkeypatch.setattr("sys.argv", ["deploy", *arguments])
    deploy.main()


@pytest.fixture
def data(store_data, tmp_path):
    """Return a copy of the feature store that a deploy may write to."""
    return shutil.copytree(store_data, tmp_path / "data")


@pytest.mark.filterwarnings("ignore")
def test_deploying_and_going_back(data, copy_bundle, monkeypatch):
    current = data / "served" / "current"
    for version in ("v1", "v2"):
        run_main(monkeypatch, data, "--bundle", str(copy_bundle(version)))
        assert read_manifest(current)["version"] == version
    run_main(monkeypatch, data, "--version", "v1")
    assert read_manifest(current)["version"] == "v1"


@pytest.mark.filterwarnings("ignore")
def test_the_version_that_is_served_is_not_rolled_back_from(data, copy_bundle, monkeypatch):
    run_main(monkeypatch, data, "--bundle", str(copy_bundle("v1")))
    run_main(monkeypatch, data, "--version", "current")
    assert taken_back(data / "served") == set()
    assert (data / "served" / "current").resolve().name == "v1"


@pytest.mark.parametrize("version", ["", "..", "a/b", "/tmp"])
def test_what_is_no_version_is_refused(data, monkeypatch, capsys, version):
    with pytest.raises(SystemExit, match="2"):
        run_main(monkeypatch, data, "--version", version)
    assert "is no version" in capsys.readouterr().err


def test_a_bundle_that_was_rolled_back_from_comes_back_only_when_asked_for(
    data, copy_bundle, monkeypatch
):
    current = data / "served" / "current"

    def served_after(*arguments):
        run_main(monkeypatch, data, *arguments)
        return read_manifest(current)["version"]

    good, bad, better = (str(copy_bundle(name)) for name in ("good", "bad", "better"))
    served_after("--bundle", good)
    served_after("--bundle", bad)
    assert served_after("--version", "good") == "good"
    # What a schedule does where nothing is new.
    assert served_after("--bundle", bad) == "good"
    assert served_after("--bundle", better) == "better"
    assert served_after("--bundle", bad) == "better"
    assert served_after("--version", "bad") == "bad"
    assert served_after("--bundle", bad) == "bad"


def test_a_rollback_that_fails_takes_nothing_back(data, copy_bundle, monkeypatch):
    newer = str(copy_bundle("newer"))
    run_main(monkeypatch, data, "--bundle", newer)
    with pytest.raises(SystemExit):
        run_main(monkeypatch, data, "--version", "never-served")
    assert deploy.taken_back(data / "served") == set()


@pytest.mark.parametrize("step", ["note_rollback", "point"])
def test_a_rollback_that_was_broken_off_is_remembered_when_it_is_repeated(
    data, copy_bundle, monkeypatch, step
):
    good, bad = (str(copy_bundle(name)) for name in ("good", "bad"))
    for bundle in (good, bad):
        run_main(monkeypatch, data, "--bundle", bundle)

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(deploy, step, killed)
        with pytest.raises(KeyboardInterrupt):
            run_main(monkeypatch, data, "--version", "good")
    run_main(monkeypatch, data, "--version", "good")
    # What a schedule does.
    run_main(monkeypatch, data, "--bundle", bad)
    assert read_manifest(data / "served" / "current")["version"] == "good"


def test_a_full_disk_is_no_mistake(data, copy_bundle, monkeypatch):
    """Its exit code is 1, by which Airflow tries again; that of mistakes is 2."""

    def full_disk(source, target):
        raise OSError("No space left on device")

    bundle = copy_bundle("v1")
    monkeypatch.setattr(deploy.shutil, "copytree", full_disk)
    with pytest.raises(SystemExit, match="Nothing was deployed.*No space left"):
        run_main(monkeypatch, data, "--bundle", str(bundle))


def test_a_bundle_that_cannot_serve_changes_nothing(data, copy_bundle, monkeypatch, capsys):
    good, bad = copy_bundle("good"), copy_bundle("bad")
    (data / "served").mkdir(exist_ok=True)
    point(data / "served" / "current", install(good, data / "served"))
    (bad / "ranker.txt").write_text("tree")
    with pytest.raises(SystemExit, match="2"):
        run_main(monkeypatch, data, "--bundle", str(bad))
    assert re.search(r"Nothing was deployed.*ranker\.txt", capsys.readouterr().err)
    with pytest.raises(SystemExit, match="2"):
        run_main(monkeypatch, data, "--version", "v9")
    assert re.search(
        r"Nothing was deployed\. v9 was never deployed; `ls .*` shows what was",
        capsys.readouterr().err,
    )
    assert read_manifest(data / "served" / "current")["version"] == "good"


def test_a_folder_in_the_links_place_is_told(data, copy_bundle, monkeypatch, capsys):
    (data / "served" / "current").mkdir(parents=True)
    with pytest.raises(SystemExit, match="2"):
        run_main(monkeypatch, data, "--bundle", str(copy_bundle("v1")))
    assert "is a folder; name a link" in capsys.readouterr().err


@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError])
def test_a_deployment_that_breaks_off_leaves_no_copy(data, copy_bundle, monkeypatch, failure):
    def broken_off():
        raise failure

    bundle = copy_bundle("v1")
    monkeypatch.setattr(deploy, "apply", broken_off)
    with pytest.raises(failure):
        run_main(monkeypatch, data, "--bundle", str(bundle))
    assert not (data / "served" / "v1").exists()


def test_snapshots_that_are_not_there_are_a_mistake(copy_bundle, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        run_main(monkeypatch, tmp_path / "data", "--bundle", str(copy_bundle("v1")))
    assert re.search("Nothing was deployed.*no snapshots", capsys.readouterr().err)
    assert list((tmp_path / "data" / "served").iterdir()) == []


@pytest.mark.filterwarnings("ignore")
def test_going_back_to_before_all_snapshots_changes_nothing(data, copy_bundle, monkeypatch, capsys):
    run_main(monkeypatch, data, "--bundle", str(copy_bundle("new")))
    online = (data / "feast" / "online.db").stat().st_ino
    old = copy_bundle("old")
    write_manifest(old, "old", datetime(2001, 1, 1, tzinfo=UTC))
    # No repetition mends it, so that Airflow tries none.
    with pytest.raises(SystemExit, match="2"):
        run_main(monkeypatch, data, "--bundle", str(old))
    said = capsys.readouterr().err
    assert re.search(r"Nothing was deployed.*no snapshot at or before 2001", said)
    assert read_manifest(data / "served" / "current")["version"] == "new"
    assert (data / "feast" / "online.db").stat().st_ino == online


@pytest.mark.filterwarnings("ignore")
def test_a_bundle_beaten_in_its_test_replaces_none_unless_asked(
    data, copy_bundle, monkeypatch, caplog, capsys
):
    """The first is deployed with a warning, twice too; a second only past the gate."""
    caplog.set_level("INFO", "serving.deploy")
    beaten = {name: copy_bundle(name) for name in ("v1", "v2")}
    for folder in beaten.values():
        manifest = read_manifest(folder) | {"metrics": {"gate": {"behind": 1}}}
        (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    current = data / "served" / "current"
    for _ in range(2):
        caplog.clear()
        run_main(monkeypatch, data, "--bundle", str(beaten["v1"]))
        assert "a single method was ahead of bundle v1" in caplog.text
    with pytest.raises(SystemExit, match="2"):
        run_main(monkeypatch, data, "--bundle", str(beaten["v2"]))
    assert re.search("was ahead of bundle v2.*--past-gate", capsys.readouterr().err)
    assert current.resolve().name == "v1"
    assert not (data / "served" / "v2").exists()
    run_main(monkeypatch, data, "--bundle", str(beaten["v2"]), "--past-gate")
    assert current.resolve().name == "v2"
    run_main(monkeypatch, data, "--version", "v1")
    assert current.resolve().name == "v1"
