"""Break the real service under load and count: no acknowledged event may be lost or come twice.

`bentoml serve` with two workers runs over the deployed bundle, with an event log of its own in a
temporary folder; clients post batches and ask for songs all the while.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import machine, save, table
from benchmarks.serving import free_port, launch
from features.columns import Event
from features.mistakes import run_command
from features.paths import served_bundle
from serving.event_log import EventLog
from serving.manifest import read_manifest
from serving.welcome import wait_until_ready

HOST: Final = "127.0.0.1"
WORKERS: Final = 2
BATCH: Final = 20
BLOCK_BYTES: Final = 4096
CLIENTS: Final = 4
KILL_EVERY_SECONDS: Final = 2.0


class Service:
    """`bentoml serve` as its own process group, to be killed and started again."""

    def __init__(self, folder: Path, more: Mapping[str, str]) -> None:
        self.folder = folder
        self.port = free_port()
        self.more = {"SEGUE_EVENTS_URL": f"sqlite:///{folder / 'events.db'}"} | dict(more)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        env = os.environ | {"BENTOML_DO_NOT_TRACK": "True"}
        env |= {"BENTOML_HOME": str(self.folder / "bentoml")} | self.more
        env.pop("PROMETHEUS_MULTIPROC_DIR", None)
        with (self.folder / "service.log").open("ab") as log:
            self.process = launch("serving.service:Segue", self.port, env, WORKERS, log)
        wait_until_ready(f"http://{HOST}:{self.port}", self.process)

    def workers(self) -> list[int]:
        """Return the process ids of the workers."""
        return [pid for pid in self._processes() if b"worker.service" in _read(pid, "cmdline")]

    def kill(self) -> None:
        """Kill -9 the whole service, which is stopped first so that it starts no new worker."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGSTOP)
        family = self._processes()
        for pid in family:
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        wait_for(lambda: not any(_read(pid, "cmdline") for pid in family), "all are gone")
        self.process = None

    def _processes(self) -> list[int]:
        """Return the ids of the service and of all processes that it started."""
        parents = {int(path.name): _parent(int(path.name)) for path in Path("/proc").glob("[0-9]*")}
        family = [self.process.pid] if self.process else []
        for pid in family:
            family += [child for child, parent in parents.items() if parent == pid]
        return family


def _parent(pid: int) -> int:
    """Return the id of a process's parent, 0 if it is gone."""
    fields = _read(pid, "stat").rpartition(b")")[2].split()
    return int(fields[1]) if fields else 0


def _read(pid: int, name: str) -> bytes:
    """Return a file of a process, empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""


@contextmanager
def running(folder: Path, more: Mapping[str, str]) -> Iterator[Service]:
    """Run a service until the block is left."""
    service = Service(folder, more)
    try:
        service.start()
        yield service
    finally:
        service.kill()


@dataclass
class Tally:
    """What the clients sent and what was acknowledged."""

    sent: set[str] = field(default_factory=set)
    acknowledged: list[str] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Clients:
    """Post batches in a closed loop, each again until it is acknowledged."""

    def __init__(self, port: int, count: int = CLIENTS) -> None:
        self.port = port
        self.tally = Tally()
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(n,)) for n in range(count)]

    def __enter__(self) -> "Clients":
        """Begin."""
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End; a batch under way may stay without an answer."""
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def acknowledged(self) -> int:
        """Return how many events were acknowledged so far."""
        with self.tally.lock:
            return len(self.tally.acknowledged)

    def _run(self, number: int) -> None:
        while not self.stopped.is_set():
            events = [event(f"listener-{number}", f"song-{i}") for i in range(BATCH)]
            ids = [one[Event.ID] for one in events]
            with self.tally.lock:
                self.tally.sent.update(ids)
            while not self.stopped.is_set() and not self._acknowledged(events, ids):
                self.stopped.wait(0.05)

    def _acknowledged(self, events: list[dict[str, Any]], ids: list[str]) -> bool:
        try:
            code, answer = post(self.port, "/events", {"events": events})
            status = str(code)
        except (OSError, HTTPException) as error:
            status, answer = type(error).__name__, {}
        with self.tally.lock:
            self.tally.statuses[status] += 1
            good = status == "200" and answer["new"] + answer["known"] == len(ids)
            if good:
                self.tally.acknowledged += ids
        return good


def event(user: str, song: str, action: str = "play", session: str = "run") -> dict[str, Any]:
    """Return an event with an id of its own."""
    return {
        Event.ID: uuid.uuid4().hex,
        Event.USER: user,
        Event.SONG: song,
        Event.SESSION: session,
        Event.ACTION: action,
    }


def post(port: int, path: str, body: Any, timeout: float = 10.0) -> tuple[int, Any]:
    """Return status and answer of one request on a connection of its own."""
    with closing(HTTPConnection(HOST, port, timeout=timeout)) as connection:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read()) | {"_worker": answer.getheader("x-worker")}


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    """Wait until a condition holds.

    Raises
    ------
    RuntimeError
        If it does not in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError(f"Not within {seconds} s: {what}.")
        time.sleep(0.02)


def audit(url: str, tally: Tally) -> dict[str, Any]:
    """Compare the log with what was acknowledged; `lost`, `twice` and `strange` must be 0."""
    with closing(EventLog.open(url)) as log:
        found = Counter(
            name for block in log.blocks() for name in block.column(Event.ID).to_pylist()
        )
    acknowledged = set(tally.acknowledged)
    return {
        "sent": len(tally.sent),
        "acknowledged": len(acknowledged),
        "in_the_log": len(found),
        "lost": len(acknowledged - found.keys()),
        "twice": sum(count > 1 for count in found.values()),
        "strange": len(found.keys() - tally.sent),
        "not_acknowledged_but_kept": len(found.keys() - acknowledged),
        "answers": dict(tally.statuses),
    }


def killed_worker(folder: Path, more: Mapping[str, str], seconds: float) -> dict[str, Any]:
    """Kill -9 one worker after the other under load; the service stays up."""
    with running(folder, more) as service:
        kills = 0
        with Clients(service.port) as clients:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                before = clients.acknowledged()
                wait_for(lambda: len(service.workers()) == WORKERS, "both workers run")
                wait_for(lambda b=before: clients.acknowledged() > b, "events are taken")  # type: ignore[misc]
                time.sleep(min(KILL_EVERY_SECONDS, seconds / 2))
                victim = service.workers()[kills % WORKERS]
                os.kill(victim, signal.SIGKILL)
                # It is counted as running until it is gone.
                wait_for(lambda v=victim: v not in service.workers(), "it is gone")  # type: ignore[misc]
                kills += 1
            before = clients.acknowledged()
            wait_for(lambda: clients.acknowledged() > before, "events are taken after a kill")
        return {"kills": kills} | audit(service.more["SEGUE_EVENTS_URL"], clients.tally)


def killed_service(folder: Path, more: Mapping[str, str], seconds: float) -> dict[str, Any]:
    """Kill -9 the whole service under load and start it again, while clients go on trying."""
    kills = 0
    with running(folder, more) as service:
        with Clients(service.port) as clients:
            until = time.monotonic() + seconds
            while kills == 0 or time.monotonic() < until:
                before = clients.acknowledged()
                wait_for(lambda b=before: clients.acknowledged() > b, "events are taken")  # type: ignore[misc]
                time.sleep(min(KILL_EVERY_SECONDS, seconds / 2))
                service.kill()
                kills += 1
                service.start()
            before = clients.acknowledged()
            wait_for(lambda: clients.acknowledged() > before, "events are taken after a kill")
        return {"kills": kills} | audit(service.more["SEGUE_EVENTS_URL"], clients.tally)


def full_disk(folder: Path, more: Mapping[str, str], seconds: float) -> dict[str, Any]:
    """Fill the disk that the log is on, and free it again; needs root, for a small tmpfs."""
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", disk], check=True)
    try:
        url = f"sqlite:///{disk / 'events.db'}"
        with running(folder, dict(more) | {"SEGUE_EVENTS_URL": url}) as service:
            with Clients(service.port) as clients:
                wait_for(lambda: clients.acknowledged() > 0, "events are taken")
                _fill(disk / "ballast")
                wait_for(lambda: clients.tally.statuses["503"] > 0, "a full disk is told")
                time.sleep(seconds / 2)
                status, answer = post(service.port, "/recommend", {"user_id": "listener-0"})
                asked = {"recommend_status": status, "recommend_songs": len(answer["songs"])}
                (disk / "ballast").unlink()
                before = clients.acknowledged()
                wait_for(lambda: clients.acknowledged() > before, "events are taken again")
            return asked | audit(url, clients.tally)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def feedback(folder: Path, more: Mapping[str, str], seconds: float) -> dict[str, Any]:
    """Skip the first song by one worker until both answer without it; return the slowest."""
    waits: list[float] = []
    with running(folder, more) as service:
        until = time.monotonic() + seconds
        while not waits or time.monotonic() < until:
            user = f"listener-{uuid.uuid4().hex}"
            asked = {"user_id": user, "session_id": user, "allow_repeats": True}
            _, answer = post(service.port, "/recommend", asked)
            skipped = answer["songs"][0]["song_id"]
            status, _ = post(
                service.port, "/events", {"events": [event(user, skipped, "skip", user)]}
            )
            if status != 200:
                raise RuntimeError(f"The event was answered with {status}.")
            waits.append(_until_gone(service.port, asked, skipped))
    late = max(waits)
    return {
        "skips": len(waits),
        "slowest_ms": 1000 * late,
        "over_100_ms": sum(w > 0.1 for w in waits),
    }


def _until_gone(port: int, asked: dict[str, Any], song: str) -> float:
    """Return after how long the last answer with the song began, over all workers."""
    begun, last, seen = time.monotonic(), 0.0, set[str | None]()
    while len(seen) < WORKERS:
        at = time.monotonic() - begun
        _, answer = post(port, "/recommend", asked)
        if any(one["song_id"] == song for one in answer["songs"]):
            last, seen = at, set()
        else:
            seen.add(answer["_worker"])
        if at > 60:
            raise RuntimeError(f"Only {seen} answered; there should be {WORKERS} workers.")
    return last


def _fill(ballast: Path) -> None:
    """Write until the disk is full, whatever others write to it meanwhile."""
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(BLOCK_BYTES))


RUNS: Final[dict[str, Callable[[Path, Mapping[str, str], float], dict[str, Any]]]] = {
    "feedback": feedback,
    "worker": killed_worker,
    "service": killed_service,
    "disk": full_disk,
}


def run(name: str, more: Mapping[str, str], seconds: float) -> dict[str, Any]:
    """Run one scenario in a folder of its own and return what was counted."""
    with tempfile.TemporaryDirectory(prefix="segue-faults-") as folder:
        try:
            return RUNS[name](Path(folder), more, seconds)
        except Exception as error:
            last = (Path(folder) / "service.log").read_text(errors="replace")[-3000:]
            raise RuntimeError(f"{name}: {error} The service's log ends with:\n{last}") from error


def main() -> None:
    """Run the scenarios and stop with an error if an acknowledged event is not there once."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="load of each scenario")
    parser.add_argument("--only", choices=list(RUNS), action="append")
    options = parser.parse_args()
    # Said at once, not by the log of a service that did not start.
    read_manifest(served_bundle())
    facts, found = machine(), {}
    for name in options.only or RUNS:
        if name == "disk" and os.geteuid() != 0:
            sys.stderr.write("disk: left out, only root may mount a small disk\n")
            continue
        found[name] = run(name, {}, options.seconds)
        rows = [[key, str(value)] for key, value in found[name].items()]
        sys.stdout.write(table([name, ""], rows) + "\n")
    protocol = {"what": main.__doc__, "seconds": options.seconds, "workers": WORKERS}
    sys.stdout.write(f"wrote {save('faults', facts, protocol, found)}\n")
    wrong = [n for n, one in found.items() for key in ("lost", "twice", "strange") if one.get(key)]
    if wrong:
        sys.exit(f"Acknowledged events are not in the log exactly once: {wrong}.")


if __name__ == "__main__":
    run_command(main)
