"""The load generator, a process of its own: a closed loop of connections to one address.

Reads a plan from standard input, writes what it measured to standard output, both JSON.
"""

import json
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from itertools import islice
from threading import Lock
from typing import Any, Final

from features.mistakes import run_command

HOST: Final = "127.0.0.1"
HEADERS: Final = {"Content-Type": "application/json"}
TIMEOUT: Final = 10.0


class Requests:
    """Hands the bodies to the connections, each body once, until the time is up."""

    def __init__(self, bodies: Sequence[str], seconds: float) -> None:
        self.waiting = enumerate(bodies)
        self.until = time.monotonic() + seconds
        self.lock = Lock()

    def take(self) -> tuple[int, str] | None:
        """Return the next place and body, None when there is nothing left to do."""
        if time.monotonic() > self.until:
            return None
        with self.lock:
            return next(self.waiting, None)


def closed_loop(port: int, path: str, requests: Requests) -> list[tuple[int, float]]:
    """Ask on one connection, each question after the last answer; return places and seconds.

    Raises
    ------
    RuntimeError
        If an answer is not 200.
    """
    measured = []
    with closing(HTTPConnection(HOST, port, timeout=TIMEOUT)) as connection:
        while (asked := requests.take()) is not None:
            place, body = asked
            begun = time.perf_counter()
            connection.request("POST", path, body, HEADERS)
            answer = connection.getresponse()
            content = answer.read()
            measured.append((place, time.perf_counter() - begun))
            if answer.status != 200:
                raise RuntimeError(f"Port {port} answered {answer.status}: {content[:300]!r}")
    return measured


def run_slice(
    port: int, path: str, bodies: Sequence[str], connections: int, seconds: float
) -> dict[str, Any]:
    """Return each answered request's place and seconds, and the requests a second."""
    requests = Requests(bodies, seconds)
    begun = time.perf_counter()
    with ThreadPoolExecutor(connections) as pool:
        parts = pool.map(lambda _: closed_loop(port, path, requests), range(connections))
        measured = [one for part in parts for one in part]
    rate = len(measured) / (time.perf_counter() - begun)
    return {"measured": measured, "per_second": rate}


def main() -> None:
    """Run the plan's slices in order."""
    plan = json.load(sys.stdin)
    bodies = [json.dumps(body) for body in plan["bodies"]]
    results = []
    for one in plan["slices"]:
        chosen = list(islice(bodies, one["start"], one["start"] + one["count"]))
        found = run_slice(one["port"], plan["path"], chosen, one["connections"], plan["seconds"])
        results.append(one | found)
        sys.stderr.write(f"{one['service']}, {one['connections']}: {found['per_second']:.0f}/s\n")
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    run_command(main)
