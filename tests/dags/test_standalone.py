"""Starting Airflow where one runs already; the real ones are in `test_running.py`."""

import fcntl
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from dags import standalone


class Healthy(BaseHTTPRequestHandler):
    """Answers as an Airflow does whose parts are well."""

    def do_GET(self) -> None:
        parts = ("metadatabase", "scheduler", "dag_processor")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({part: {"status": "healthy"} for part in parts}).encode())

    def log_message(self, *words: object) -> None:
        """Write nothing."""


@pytest.fixture
def another_airflow() -> Iterator[int]:
    with HTTPServer(("localhost", 0), Healthy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(standalone, "serve", lambda *_: pytest.fail("A second one was started."))
    passwords = tmp_path / "simple_auth_manager_passwords.json.generated"
    passwords.write_text('{"admin": "of this one"}', encoding="utf-8")
    return tmp_path


def test_the_airflow_of_a_folder_is_told_whatever_port_is_asked_for(
    home, another_airflow, monkeypatch, capsys
):
    monkeypatch.setenv("PORT", "1")
    with (home / "address").open("w", encoding="utf-8") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write(f"http://localhost:{another_airflow}")
        held.flush()
        assert standalone.main() == 0
    told = capsys.readouterr().out
    assert "runs already" in told
    assert f"http://localhost:{another_airflow}" in told
    assert "of this one" in told


def test_one_that_is_being_started_is_told(home, monkeypatch, capsys):
    monkeypatch.setenv("PORT", "2")
    with (home / "address").open("w", encoding="utf-8") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write("http://localhost:1")
        held.flush()
        assert standalone.main() == 0
    assert "being started already, at http://localhost:1" in capsys.readouterr().out


@pytest.mark.parametrize(("code", "ended"), [("import time; time.sleep(60)", 1), ("exit(3)", 3)])
def test_an_airflow_whose_scheduler_died_ends(monkeypatch, capsys, code, ended):
    monkeypatch.setattr(standalone, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(standalone, "GONE_SECONDS", 0.05 if ended == 1 else 60.0)
    with subprocess.Popen([sys.executable, "-c", code]) as airflow:
        # Nobody answers at port 1.
        assert standalone.watch(airflow, "http://localhost:1") == ended
        airflow.kill()
    assert ("has not been healthy" in capsys.readouterr().err) == (ended == 1)


def test_an_airflow_that_is_well_is_stayed_with(another_airflow, monkeypatch):
    monkeypatch.setattr(standalone, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(standalone, "GONE_SECONDS", 0.05)
    looks = []

    def wait(seconds: float) -> int:
        looks.append(seconds)
        if len(looks) == 50:
            return 0
        raise subprocess.TimeoutExpired("airflow", seconds)

    airflow = SimpleNamespace(wait=wait)
    assert standalone.watch(airflow, f"http://localhost:{another_airflow}") == 0


def test_the_airflow_of_another_folder_is_not_taken_for_ones_own(
    home, another_airflow, monkeypatch, capsys
):
    monkeypatch.setenv("PORT", str(another_airflow))
    assert standalone.main() == 1
    said = capsys.readouterr()
    assert f"Port {another_airflow} is taken by another program" in said.err
    assert "of this one" not in said.out
