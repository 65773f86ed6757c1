"""`/recommend` over catalogues of three sizes against an empty BentoML endpoint, under equal load.

The catalogues are drawn (`benchmarks.big_bundle`), the services are the real ones. Both run at the
same time, one worker each; a third process asks them in turn, the same bodies, over as many
connections. Every body is another session of ten songs, by known and new listeners in turn.

With `--throughput SECONDS`, Locust then keeps two workers of each service busy for so long.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import pandas as pd
import psutil

from benchmarks.measure import (
    RESULTS,
    interleaved,
    machine,
    percentiles,
    ratios,
    rounded,
    spread,
    table,
)
from benchmarks.recall import index_recall
from features.localhost import open_local
from features.mistakes import run_command
from features.paths import PROJECT
from serving.bundle import load_retrieval
from serving.stages import ORDER
from serving.welcome import wait_until_ready
from training.files import write_json

SERVICES: Final = {"segue": "serving.service:Segue", "empty": "benchmarks.empty_service:Empty"}
CONNECTIONS: Final = (1, 4)
KINDS: Final = ("known", "new")
SIZES: Final = (10_000, 1_000_000, 10_000_000)
WARM_UP: Final = 200
EMPTY_STARTS: Final = 5
RECALLED: Final = 100
GIB: Final = 2**30
PATH: Final = "/recommend"


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


def launch(
    target: str, port: int, environment: Mapping[str, str], workers: int, log: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start `bentoml serve` as a process group of its own, in this environment and no other."""
    program = str(Path(sys.executable).with_name("bentoml"))
    return subprocess.Popen(
        [program, "serve", target, "--host", "127.0.0.1", "--port", str(port)],
        cwd=PROJECT,
        # BentoML's `--api-workers` does not reach a service that says how many it has.
        env={**environment, "SEGUE_WORKERS": str(workers)},
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


@contextmanager
def served(
    target: str, port: int, environment: Mapping[str, str], workers: int = 1
) -> Iterator[tuple[int, float]]:
    """Run `bentoml serve` until the block is left; give its process and the seconds it took.

    Raises
    ------
    RuntimeError
        If it does not come up; the message ends with its last words.
    """
    begun = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        process = launch(target, port, {**os.environ, **environment}, workers, log)
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", process)
            if len(answering(process.pid)) != workers:
                raise RuntimeError(f"There should be {workers} workers.")
            yield process.pid, time.perf_counter() - begun
        except RuntimeError as error:
            log.seek(0)
            last = log.read()[-2000:].decode(errors="replace")
            raise RuntimeError(f"{target}: {error} Its log ends with:\n{last}") from error
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=30)


def answering(pid: int) -> list[int]:
    """Return the process ids of a service's workers."""
    family = psutil.Process(pid).children(recursive=True)
    return [one.pid for one in family if "_bentoml_impl.worker.service" in one.cmdline()]


def memory(pid: int) -> float:
    """Return the GiB that a service's processes hold, pages that they share counted once."""
    root = psutil.Process(pid)
    processes = [root, *root.children(recursive=True)]
    return sum(process.memory_full_info().pss for process in processes) / GIB


def anonymous_memory(pid: int) -> float:
    """Return the GiB that a service's processes hold besides mapped files."""
    root = psutil.Process(pid)
    family = [root, *root.children(recursive=True)]
    texts = [Path(f"/proc/{one.pid}/status").read_text(encoding="utf-8") for one in family]
    lines = [line for text in texts for line in text.splitlines() if line.startswith("RssAnon:")]
    return sum(int(line.split()[1]) for line in lines) * 1024 / GIB


def stage_times(port: int, bodies: Sequence[Any]) -> dict[str, dict[str, float]]:
    """Return percentiles of the stages that `Server-Timing` names, in milliseconds."""
    found: dict[str, list[float]] = {}
    for body in bodies:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{PATH}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with open_local(request, timeout=30) as response:
            header = response.headers["Server-Timing"]
        for part in header.split(", "):
            name, ms = part.split(";dur=")
            found.setdefault(name, []).append(float(ms) / 1000)
    return {name: percentiles(times) for name, times in found.items()}


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


def drawn(songs: int, work: Path) -> Path:
    """Return the folder of a drawn catalogue, made if it is not there."""
    out = work / f"songs_{songs}"
    if not (out / "bodies.json").exists():
        sys.stderr.write(f"drawing a catalogue of {songs:,} songs into {out}\n")
        words = ["--songs", str(songs), "--out", str(out)]
        subprocess.run([sys.executable, "-m", "benchmarks.big_bundle", *words], check=True)
    return out


@contextmanager
def places(out: Path) -> Iterator[dict[str, str]]:
    """Give the environment that serves a drawn catalogue; delete its exposures afterwards.

    An answer leaves some 30 KB of them: a round of measurements some 10 GB.
    """
    with tempfile.TemporaryDirectory(prefix="exposures_", dir=out) as folder:
        yield {
            "SEGUE_DATA": str(out / "data"),
            "SEGUE_BUNDLE": str(out / "bundle"),
            "SEGUE_EXPOSURES": folder,
        }


def measure(out: Path, rounds: int, count: int, seconds: float) -> dict[str, Any]:
    """Measure the service over one catalogue and the empty one in turn."""
    bodies = json.loads((out / "bodies.json").read_text(encoding="utf-8"))
    ports = {name: free_port() for name in SERVICES}
    asked = rounds * count
    if len(bodies) < asked + 2 * WARM_UP + RECALLED:
        raise ValueError(f"{out}: {len(bodies)} requests are too few; ask for fewer rounds.")
    with ExitStack() as running:
        environment = running.enter_context(places(out))
        started = {
            name: running.enter_context(served(target, ports[name], environment))
            for name, target in SERVICES.items()
        }
        plan = {"path": PATH, "seconds": seconds, "bodies": bodies[: asked + WARM_UP]}
        generate(plan | {"slices": slices(ports, 1, WARM_UP, first=asked)})
        results = generate(plan | {"slices": slices(ports, rounds, count)})
        stages = stage_times(ports["segue"], bodies[asked + WARM_UP : asked + 2 * WARM_UP])
        held = memory(started["segue"][0])
    loads = summary(results)
    one = loads[str(CONNECTIONS[0])]
    return {
        "p50_ms": one["segue"]["p50_ms"],
        "p99_ms": one["segue"]["p99_ms"],
        "p50_ratio": one["ratio_p50"]["pooled"],
        "p99_ratio": one["ratio_p99"]["pooled"],
        "index_recall": recall_of(out, bodies[-RECALLED:]),
        "rss_gib": held,
        "ready_s": started["segue"][1],
        "stages": stages,
        "connections": loads,
    }


def recall_of(out: Path, bodies: Sequence[dict[str, Any]]) -> float:
    """Return the recall of a catalogue's index, in this process."""
    os.environ["SEGUE_DATA"] = str(out / "data")
    return index_recall(load_retrieval(out / "bundle"), bodies)


def throughput(out: Path, seconds: float) -> dict[str, Any]:
    """Keep two workers of each service busy by Locust; return rates, failures and memory.

    The empty one has nothing to wear out, but does not spread its connections: now and then all of
    them stay with one of its workers. So it is started several times, for a fifth of the time in
    all, and its median start counts.
    """
    segue = busy("segue", out, seconds)
    starts = [busy("empty", out, seconds / 5 / EMPTY_STARTS) for _ in range(EMPTY_STARTS)]
    empty = sorted(starts, key=lambda one: one["per_second"])[EMPTY_STARTS // 2]
    return {
        "services": {"segue": segue, "empty": empty},
        "empty_starts_per_second": [one["per_second"] for one in starts],
        "share_of_empty": segue["per_second"] / empty["per_second"],
        "seconds": seconds,
    }


def busy(name: str, out: Path, seconds: float) -> dict[str, Any]:
    """Start a service and keep its two workers busy; return rate, failures and memory.

    Pages of the bundle are mapped as listeners ask for them; what must not grow is the memory
    besides.
    """
    port = free_port()
    with places(out) as environment, served(SERVICES[name], port, environment, 2) as (pid, _):
        _locust(port, out, min(seconds, 20.0))
        before = anonymous_memory(pid)
        return _locust(port, out, seconds) | {
            "workers": len(answering(pid)),
            "anonymous_before_gib": before,
            "anonymous_after_gib": anonymous_memory(pid),
            "all_after_gib": memory(pid),
        }


def _locust(port: int, out: Path, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "locust", "-f", "benchmarks/locustfile.py", "--headless"]
        words += ["-u", "8", "-r", "8", "-t", f"{max(1, round(seconds))}s", "--only-summary"]
        words += ["--host", f"http://127.0.0.1:{port}", "--csv", f"{folder}/run"]
        environment = {**os.environ, "SEGUE_BODIES": str(out / "bodies.json")}
        subprocess.run(words, cwd=PROJECT, env=environment, check=False, capture_output=True)
        total = pd.read_csv(f"{folder}/run_stats.csv").iloc[-1]
    return {
        "requests": int(total["Request Count"]),
        "failures": int(total["Failure Count"]),
        "per_second": float(total["Requests/s"]),
    }


def plot(found: Mapping[str, Any], path: Path) -> None:
    """Draw latency and the stages' times by the size of the catalogue."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [name for name in found if name.startswith("songs_")]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(13, 4), layout="constrained")
    labels = [f"{int(name.removeprefix('songs_')):,}" for name in names]
    for key, ratio in (("p50_ms", "p50_ratio"), ("p99_ms", "p99_ratio")):
        left.plot(labels, [found[n][key] for n in names], "o-", label=f"Segue {key[:3]}")
        empty = [found[n][key] / found[n][ratio] for n in names]
        left.plot(labels, empty, "o--", label=f"empty endpoint {key[:3]}")
    left.set(xlabel="songs", ylabel="ms", ylim=(0, None), title="Latency, one connection")
    left.legend(loc="upper left", bbox_to_anchor=(1, 1))
    bottom = np.zeros(len(names))
    for stage in (name for name in ORDER if name != "total"):
        heights = np.array([found[n]["stages"][stage]["p50_ms"] for n in names])
        right.bar(labels, heights, bottom=bottom, label=stage)
        bottom += heights
    right.set(xlabel="songs", ylabel="ms", title="Median of each stage")
    right.legend(loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(path, dpi=110)


def show(found: Mapping[str, Any]) -> str:
    """Return the figures as a table, one row a catalogue."""
    keys = ("p50_ms", "p99_ms", "p50_ratio", "p99_ratio", "index_recall", "rss_gib", "ready_s")
    rows = [
        [name, *(f"{one[key]:.3g}" for key in keys)]
        for name, one in found.items()
        if name.startswith("songs_")
    ]
    return table(["catalogue", *keys], rows)


def main() -> None:
    """Measure all catalogues, print the table, draw the plot."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--songs", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "segue-bench")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--count", type=int, default=200, help="requests a slice, even")
    parser.add_argument("--seconds", type=float, default=30.0, help="at most, a slice")
    parser.add_argument("--throughput", type=float, default=0, help="seconds of the rate's run")
    arguments = parser.parse_args()
    if arguments.count % 2:
        parser.error("--count must be even: known and new listeners come in turn.")
    facts, found = machine(), {}
    for songs in arguments.songs:
        out = drawn(songs, arguments.work)
        found[f"songs_{songs}"] = measure(out, arguments.rounds, arguments.count, arguments.seconds)
        sys.stdout.write(show(found))
    if arguments.throughput:
        largest = drawn(max(arguments.songs), arguments.work)
        found["throughput"] = throughput(largest, arguments.throughput)
        sys.stdout.write(f"{json.dumps(found['throughput'], indent=1)}\n")
    protocol = {
        "what": "closed loop, one worker a service, interleaved slices of the same bodies; "
        "sessions of ten songs, known and new listeners in turn, k = 10; ratios over all rounds",
        "rounds": arguments.rounds,
        "requests_a_slice": arguments.count,
    }
    content = {**found, "machine": facts, "protocol": protocol}
    write_json(RESULTS / "serving.json", rounded(content))
    plot(found, PROJECT / "docs" / "images" / "serving.png")
    sys.stdout.write(f"wrote {RESULTS / 'serving.json'}\n")


if __name__ == "__main__":
    run_command(main)
