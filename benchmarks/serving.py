"""`/recommend` of the served bundle against an empty BentoML endpoint, under the same load.

Both services run at the same time, one worker each; a third process asks them in turn, the same
bodies, over as many connections. Within one load every body is another session.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from benchmarks.measure import interleaved, machine, percentiles, ratios, save, spread, table
from features.columns import Event
from features.paths import PROJECT
from serving.welcome import fetch, wait_until_ready
from training.phases import read_phases
from training.sessions import read_sessions

SERVICES: Final = {"segue": "serving.service:Segue", "empty": "benchmarks.empty_service:Empty"}
CONNECTIONS: Final = (1, 4)
KINDS: Final = ("known", "new")
SESSION: Final = 10
WARM_UP: Final = 30
PATH: Final = "/recommend"


def request_bodies(heard: pd.DataFrame, count: int, seed: int) -> list[dict[str, Any]]:
    """Return distinct requests after ten songs, in turn by a known listener and by a new one.

    Parameters
    ----------
    heard
        Listenings by session and time (`training.sessions.listenings`).
    count
        How many; at most one a session.

    Raises
    ------
    ValueError
        If there are not enough sessions of ten songs.
    """
    first = heard[heard.groupby(Event.SESSION).cumcount() < SESSION]
    whole = first.groupby(Event.SESSION)[Event.SONG].transform("size") == SESSION
    sessions = [part for _, part in first[whole].groupby(Event.SESSION)]
    if len(sessions) < count:
        raise ValueError(f"There are {len(sessions)} sessions of {SESSION} songs, not {count}.")
    chosen = np.random.default_rng(seed).permutation(len(sessions))[:count]
    return [request_body(sessions[i], known=turn % 2 == 0) for turn, i in enumerate(chosen)]


def request_body(session: pd.DataFrame, known: bool) -> dict[str, Any]:
    """Return one session as a request."""
    user = session[Event.USER].iloc[0] if known else f"new-{session[Event.SESSION].iloc[0]}"
    events = [
        {"song_id": song, "action": action} | ({} if np.isnan(ms) else {"played_ms": int(ms)})
        for song, action, ms in zip(
            session[Event.SONG], session[Event.ACTION], session[Event.PLAYED_MS], strict=True
        )
    ]
    return {"user_id": user, "session": events, "k": 10}


def slices(
    ports: Mapping[str, int], rounds: int, count: int, first: int = 0
) -> list[dict[str, Any]]:
    """Return the plan: in each round, each number of connections, one slice a service.

    The bodies of round r are those from `first` + r * `count` on.
    """
    names = [f"{c} {service}" for c in CONNECTIONS for service in ports]
    plan = []
    for turn, name in interleaved(names, rounds):
        connections, service = name.split()
        asked = {"connections": int(connections), "service": service, "port": ports[service]}
        plan.append({"round": turn, "start": first + turn * count, "count": count} | asked)
    return plan


def summary(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return percentiles of each service and kind of listener, and ratios, by connections."""
    return {
        str(connections): _of_one_load([r for r in results if r["connections"] == connections])
        for connections in CONNECTIONS
    }


def _of_one_load(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    by_round = {
        s: [percentiles(seconds(r)) for r in results if r["service"] == s] for s in SERVICES
    }
    found: dict[str, Any] = {}
    for service in SERVICES:
        own = [r for r in results if r["service"] == service]
        found[service] = percentiles([s for r in own for s in seconds(r)]) | {
            kind: percentiles([s for r in own for s in seconds(r, kind)]) for kind in KINDS
        }
        found[service]["per_second"] = spread([r["per_second"] for r in own])
    for key in ("p50_ms", "p99_ms"):
        parts = [[one[key] for one in by_round[service]] for service in SERVICES]
        pooled = found["segue"][key] / found["empty"][key]
        found[f"ratio_{key[:3]}"] = spread(ratios(*parts)) | {"pooled": pooled}
    return found


def seconds(result: Mapping[str, Any], kind: str | None = None) -> list[float]:
    """Return a slice's measured seconds, of one kind of listener if asked."""
    # Known and new listeners come in turn, and every slice starts with a known one.
    return [s for place, s in result["measured"] if kind is None or KINDS[place % 2] == kind]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def served(target: str, port: int) -> Iterator[None]:
    """Run `bentoml serve` until the block is left.

    Raises
    ------
    RuntimeError
        If it does not come up; the message ends with its last words.
    """
    program = str(Path(sys.executable).with_name("bentoml"))
    words = [program, "serve", target, "--host", "127.0.0.1", "--port", str(port)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            words, cwd=PROJECT, stdout=log, stderr=log, start_new_session=True
        )
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", process)
            yield
        except RuntimeError as error:
            log.seek(0)
            last = log.read()[-2000:].decode(errors="replace")
            raise RuntimeError(f"{target}: {error} Its log ends with:\n{last}") from error
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=30)


def generate(plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Run a plan in the load-generating process."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load"],
        cwd=PROJECT,
        input=json.dumps(plan),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    results: list[dict[str, Any]] = json.loads(done.stdout)
    return results


def show(found: Mapping[str, Any]) -> str:
    """Return the figures as tables, one a number of connections."""
    parts = []
    for connections, load in found.items():
        rows = []
        for service in SERVICES:
            for name, one in ((service, load[service]), *((k, load[service][k]) for k in KINDS)):
                title = name if name == service else f"  {name} listeners"
                rows.append([title, f"{one['p50_ms']:.2f}", f"{one['p99_ms']:.2f}"])
        for bound in ("median", "min", "max", "pooled"):
            pair = [f"{load[f'ratio_{p}'][bound]:.2f}" for p in ("p50", "p99")]
            rows.append([f"ratio, {bound}", *pair])
        parts.append(table([f"{connections} connection(s)", "p50 ms", "p99 ms"], rows))
    return "\n".join(parts)


def main() -> None:
    """Measure the service and the empty one in turn."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--lake", type=Path, default=Path("data/lake"))
    parser.add_argument("--phases", type=Path, default=Path("data/phases.json"))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--count", type=int, default=100, help="requests a slice, even")
    parser.add_argument("--seconds", type=float, default=20.0, help="at most, a slice")
    arguments = parser.parse_args()
    if arguments.count % 2:
        parser.error("--count must be even: known and new listeners come in turn.")
    facts = machine()
    _, heard = read_sessions(arguments.lake, read_phases(arguments.phases).test)
    asked = arguments.rounds * arguments.count
    bodies = request_bodies(heard, asked + WARM_UP, seed=7)
    ports = {name: free_port() for name in SERVICES}
    with ExitStack() as running:
        for name, target in SERVICES.items():
            running.enter_context(served(target, ports[name]))
        base = f"http://127.0.0.1:{ports['segue']}"
        version = fetch(f"{base}{PATH}", bodies[0])["model_version"]
        plan = {"path": PATH, "seconds": arguments.seconds, "bodies": bodies}
        generate(plan | {"slices": slices(ports, 1, WARM_UP, first=asked)})
        results = generate(plan | {"slices": slices(ports, arguments.rounds, arguments.count)})
    found = summary(results)
    protocol = {
        "what": "closed loop, one worker a service, interleaved slices, sessions of ten songs, "
        "known and new listeners in turn, k = 10; the same bodies to both; ratios by round",
        "model_version": version,
        "rounds": arguments.rounds,
        "requests_a_slice": arguments.count,
        "connections": list(CONNECTIONS),
    }
    path = save("serving", facts, protocol, found)
    sys.stdout.write(f"{show(found)}\nwrote {path}\n")


if __name__ == "__main__":
    main()
