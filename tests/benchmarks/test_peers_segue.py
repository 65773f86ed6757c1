"""The checkout in which Segue is evaluated follows the project's last commit."""

from pathlib import Path

from benchmarks.peers.segue import run, settings, update


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


def test_any_path_stays_a_text(tmp_path):
    data = tmp_path / "my: music"
    assert settings("30music", data, "end")[1] == f'source.path="{data}"'
