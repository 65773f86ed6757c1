"""The checkout in which Segue is evaluated follows the project's last commit."""

from pathlib import Path
from subprocess import CalledProcessError

import pytest

from benchmarks.peers import segue
from benchmarks.peers.segue import cut_of, run, settings, update


def commit(project: Path, text: str) -> None:
    (project / "code.py").write_text(text)
    run(["git", "add", "--all"], project)
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    run(["git", *who, "commit", "--quiet", "--no-verify", "-m", text], project)


def test_a_checkout_is_made_once_and_then_brought_up_to_date(tmp_path):
    project, checkout = tmp_path / "project", tmp_path / "cuts" / "segue"
    project.mkdir()
    run(["git", "init", "--quiet"], project)
    commit(project, "one")
    update(checkout, project)
    assert (checkout / "code.py").read_text() == "one"
    (checkout / "code.py").write_text("parameters of the cut")
    (checkout / "data").mkdir()
    commit(project, "two")
    update(checkout, project)
    assert (checkout / "code.py").read_text() == "two"
    assert (checkout / "data").is_dir()
    assert (project / "code.py").read_text() == "two"


def test_a_cut_is_a_moment_or_the_end(tmp_path):
    assert settings("30music", tmp_path, "end")[-1] == "phases.as_of=null"
    moment = "2014-11-27T10:29:45Z"
    assert settings("30music", tmp_path, moment)[-1] == f"phases.as_of='{moment}'"


@pytest.mark.parametrize("named", ["2014-11-27T10:29:45Z", "2014-11-27T10:29:45"])
def test_a_cut_has_a_zone_as_the_parameters_want_it(named):
    assert cut_of(named) == "2014-11-27T10:29:45+00:00"
    assert cut_of("end") == "end"


def test_any_path_stays_a_text(tmp_path):
    data = tmp_path / "my: music"
    assert settings("30music", data, "end")[1] == f'source.path="{data}"'


@pytest.mark.parametrize("cut", ["nope", "2014-13-01"])
def test_a_cut_that_is_no_moment_is_refused_before_anything_is_made(
    tmp_path, monkeypatch, capsys, cut
):
    words = ["segue", "--data", str(tmp_path), "--cut", cut, "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit, match="2"):
        segue.main()
    assert f"{cut} is no moment such as" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_a_stage_said_is_not_followed_by_a_traceback(tmp_path, monkeypatch):
    def failed(command, where):
        raise CalledProcessError(7, command)

    words = ["segue", "--data", str(tmp_path), "--cut", "end", "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", words)
    monkeypatch.setattr(segue, "run", failed)
    with pytest.raises(SystemExit, match="7"):
        segue.main()
