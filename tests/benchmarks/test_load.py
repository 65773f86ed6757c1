"""The load generator against a real HTTP server of the standard library."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.load import run_slice


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[int] = []
        self.clients: set[object] = set()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        self.server.clients.add(self.client_address)
        self.send_response(500 if body == 13 else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *words: object) -> None:
        """Keep quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("connections", [1, 4])
def test_each_body_is_asked_once_over_so_many_connections(server: Server, connections: int) -> None:
    bodies = [str(i) for i in range(100, 160)]
    found = run_slice(server.server_port, "/", bodies, connections, seconds=60)
    assert sorted(server.bodies) == list(range(100, 160))
    assert sorted(place for place, _ in found["measured"]) == list(range(60))
    assert all(seconds > 0 for _, seconds in found["measured"])
    assert 1 <= len(server.clients) <= connections
    assert found["per_second"] > 0


def test_a_slice_ends_when_its_time_is_up(server: Server) -> None:
    assert run_slice(server.server_port, "/", ["1"] * 50, 2, seconds=-1)["measured"] == []
    assert server.bodies == []


def test_an_answer_that_is_no_answer_stops_the_slice(server: Server) -> None:
    with pytest.raises(RuntimeError, match="answered 500"):
        run_slice(server.server_port, "/", ["1", "13", "2"], 1, seconds=60)
