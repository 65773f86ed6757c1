"""What `make run` says once the service answers."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from serving import welcome
from serving.welcome import refuse_taken, told
from tests.serving.conftest import free_port


class Refusing(BaseHTTPRequestHandler):
    """Answers as the service does where keys are needed."""

    def do_GET(self) -> None:  # noqa: N802 - its name in the standard library
        self.send_error(401)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def refusing() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Refusing)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_example_that_is_refused_is_said_and_ends_nothing(refusing: str) -> None:
    assert "No example: HTTP Error 401" in told(refusing)
    assert "SEGUE_API_KEYS" in told(refusing)


def test_no_proxy_is_asked_for_a_service_of_this_machine(
    refusing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib.request._opener", None)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert "No example: HTTP Error 401" in told(refusing)


def test_a_look_at_the_port_starts_nothing(refusing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(welcome.subprocess, "Popen", lambda *_: pytest.fail("It was started."))
    monkeypatch.setattr("sys.argv", ["welcome", "--look", "--port", str(free_port())])
    welcome.main()
    monkeypatch.setattr("sys.argv", ["welcome", "--look", "--port", refusing.rpartition(":")[2]])
    with pytest.raises(SystemExit, match="cannot be had"):
        welcome.main()


def test_a_port_that_others_have_is_not_taken_for_ones_own(refusing: str) -> None:
    port = int(refusing.rpartition(":")[2])
    with pytest.raises(SystemExit, match=rf"Port {port} cannot be had .*PORT="):
        refuse_taken(port)
    refuse_taken(0)
