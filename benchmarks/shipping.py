"""Swap, roll back and damage the served bundle under steady load: no request may fail or mix.

`bentoml serve` with two workers follows a link to one of two bundles whose songs carry the
bundle's name in their titles, so that an answer made of two bundles shows. Clients ask all the
while; the rollback is the real command.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from benchmarks.faults import CLIENTS, WORKERS, Service, post, running, wait_for
from benchmarks.measure import machine, save, table
from features.catalogue import NAMES_FILE
from features.columns import Song
from features.mistakes import run_command
from features.names import SCHEMA, map_names, save_names
from features.paths import PROJECT, served_bundle
from serving.deploy import point
from serving.manifest import MANIFEST, checksums, read_manifest

GOOD: Final = ("one", "two")
DAMAGED: Final = "damaged"
# An answer may come from less where a load keeps it past its deadline; it says so.
MUST_BE_ZERO: Final = ("failed", "mixed", "damaged_answers")


def marked(title: str | None, version: str) -> str:
    """Return a title that names its bundle."""
    return f"{title or ''} [{version}]"


def copy_as(bundle: Path, target: Path) -> None:
    """Copy a bundle under another version, named in every title."""
    shutil.copytree(bundle, target)
    version = target.name
    batches = [
        pa.RecordBatch.from_arrays(
            [
                pa.array(
                    [marked(title, version) for title in batch.column(Song.TITLE).to_pylist()]
                ),
                batch.column(Song.ARTISTS),
            ],
            schema=SCHEMA,
        )
        for batch in map_names(bundle / NAMES_FILE).batches
    ]
    (target / NAMES_FILE).unlink()
    save_names(target / NAMES_FILE, batches)
    manifest = json.loads((target / MANIFEST).read_text(encoding="utf-8"))
    manifest |= {"version": version, "checksums": checksums(target)}
    (target / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


@dataclass
class Answers:
    """What the clients were answered, and by which worker lately with which bundle."""

    counts: Counter[str] = field(default_factory=Counter)
    latest: dict[str | None, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, status: int, answer: Mapping[str, Any]) -> None:
        """Judge one answer."""
        with self.lock:
            self.counts["asked"] += 1
            if status != 200:
                self.counts["failed"] += 1
                return
            version = answer["model_version"]
            self.counts["degraded"] += bool(answer["degraded"])
            self.counts["damaged_answers"] += version == DAMAGED
            titles = [song["title"] for song in answer["songs"]]
            self.counts["mixed"] += not all(t.endswith(f"[{version}]") for t in titles)
            self.counts[f"answers_of_{version}"] += 1
            self.latest[answer["_worker"]] = version

    def all_by(self, version: str) -> bool:
        """Tell whether all workers answered with a bundle when they answered last."""
        with self.lock:
            return len(self.latest) == WORKERS and set(self.latest.values()) == {version}


def ask(port: int, answers: Answers, stopped: threading.Event, number: int) -> None:
    """Ask again and again, for a known or a new listener."""
    user = f"user-{number}" if number % 2 else None
    while not stopped.is_set():
        try:
            status, answer = post(port, "/recommend", {"user_id": user, "k": 10})
        except (OSError, HTTPException):
            status, answer = 0, {}
        answers.add(status, answer)


def ship(folder: Path, bundle: Path, more: Mapping[str, str], seconds: float) -> dict[str, Any]:
    """Run through swap, rollback, damaged bundle and another swap; return what was counted."""
    served = folder / "served"
    for version in GOOD:
        copy_as(bundle, served / version)
    shutil.copytree(served / GOOD[1], served / DAMAGED)
    (served / DAMAGED / "ranker.txt").write_text("tree", encoding="utf-8")
    link = served / "current"
    point(link, served / GOOD[0])
    env = dict(more) | {"SEGUE_BUNDLE": str(link)}
    answers, stopped = Answers(), threading.Event()
    with running(folder, env) as service:
        threads = [
            threading.Thread(target=ask, args=(service.port, answers, stopped, number))
            for number in range(CLIENTS)
        ]
        for thread in threads:
            thread.start()
        try:
            _stations(service, answers, link, env, seconds)
        finally:
            stopped.set()
            for thread in threads:
                thread.join()
    return dict.fromkeys((*MUST_BE_ZERO, "degraded"), 0) | dict(answers.counts)


def _stations(
    service: Service, answers: Answers, link: Path, env: Mapping[str, str], seconds: float
) -> None:
    one, two = GOOD
    pause = threading.Event()
    wait_for(lambda: answers.all_by(one), "all answer with the first bundle")
    pause.wait(seconds / 4)
    point(link, link.parent / two)
    wait_for(lambda: answers.all_by(two), "all answer with the second bundle")
    pause.wait(seconds / 4)
    command = [sys.executable, "-m", "serving.deploy", "--version", one]
    subprocess.run(command, cwd=PROJECT, env=os.environ | env, check=True, capture_output=True)
    wait_for(lambda: answers.all_by(one), "all are back at the first bundle")
    refused = refusals(service)
    point(link, link.parent / DAMAGED)
    wait_for(lambda: refusals(service) >= refused + WORKERS, "all refuse the damaged bundle")
    pause.wait(seconds / 4)
    wait_for(lambda: answers.all_by(one), "all stay with the first bundle")
    point(link, link.parent / two)
    wait_for(lambda: answers.all_by(two), "all answer with the second bundle again")
    pause.wait(seconds / 4)


def refusals(service: Service) -> int:
    """Return how often the service's log says that a worker stays with what it has."""
    return (service.folder / "service.log").read_text(errors="replace").count("Stays with")


def run(bundle: Path, more: Mapping[str, str], seconds: float) -> dict[str, Any]:
    """Ship in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="segue-shipping-") as folder:
        try:
            return ship(Path(folder), bundle, more, seconds)
        except Exception as error:
            log = Path(folder) / "service.log"
            last = log.read_text(errors="replace")[-3000:] if log.exists() else ""
            raise RuntimeError(f"{error} The service's log ends with:\n{last}") from error


def main() -> None:
    """Ship the deployed bundle and stop with an error if a request failed or mixed bundles."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="of load between the steps")
    options = parser.parse_args()
    bundle = served_bundle().resolve()
    read_manifest(bundle)
    facts = machine()
    found = run(bundle, {}, options.seconds)
    sys.stdout.write(table(["shipping", ""], [[k, str(v)] for k, v in found.items()]))
    protocol = {"what": main.__doc__, "seconds": options.seconds, "workers": WORKERS}
    sys.stdout.write(f"wrote {save('shipping', facts, protocol, found)}\n")
    wrong = [name for name in MUST_BE_ZERO if found[name]]
    if wrong:
        sys.exit(f"Shipping was felt: {wrong} should be 0.")


if __name__ == "__main__":
    run_command(main)
