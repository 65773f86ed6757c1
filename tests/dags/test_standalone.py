"""Starting Airflow where one runs already; the real ones are in `test_running.py`."""

import fcntl
import json
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

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


def test_the_airflow_of_another_folder_is_not_taken_for_ones_own(
    home, another_airflow, monkeypatch, capsys
):
    monkeypatch.setenv("PORT", str(another_airflow))
    assert standalone.main() == 1
    said = capsys.readouterr()
    assert f"Port {another_airflow} is taken by another program" in said.err
    assert "of this one" not in said.out
