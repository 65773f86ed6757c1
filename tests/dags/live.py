"""A running Airflow and a running service, seen from outside."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from dags.standalone import Api, password
from features.localhost import open_local
from tests.dags.conftest import airflow_env

Found = TypeVar("Found")
SECONDS = 1200


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(find: Callable[[], Found | None], what: str, seconds: float = SECONDS) -> Found:
    """Ask again and again until there is an answer that is not None or False."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = find()
        if found:
            return found
        time.sleep(1)
    raise TimeoutError(f"{what} did not come within {seconds} seconds.")


@contextmanager
def running(command: list[str], cwd: Path, env: dict[str, str], log: Path) -> Iterator[Any]:
    """Run a server with its output in a file; end it and all that it started."""
    with log.open("wb") as stream:
        server = subprocess.Popen(
            command, cwd=cwd, env=env, stdout=stream, stderr=stream, start_new_session=True
        )
        try:
            yield server
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(timeout=60)
            finally:
                if server.poll() is None:
                    os.killpg(server.pid, signal.SIGKILL)


@contextmanager
def airflow(project: Path) -> Iterator[Api]:
    """Start Airflow as `make airflow` does, on a free port, and log in."""
    home, port = project / "airflow_home", free_port()
    env = {**airflow_env(home, project), "PORT": str(port)}
    home.mkdir(exist_ok=True)
    log = home / "start.log"
    command = [sys.executable, str(project / "dags" / "standalone.py")]
    with running(command, project, env, log) as starter:

        def is_ready() -> bool:
            text = log.read_text(encoding="utf-8")
            assert starter.poll() is None, text
            return "Press Ctrl-C" in text

        wait_for(is_ready, "Airflow", 240)
        text = log.read_text(encoding="utf-8")
        assert f"http://localhost:{port}" in text
        assert password(home) in text
        api = Api(f"http://localhost:{port}", password(home))
        api.login()
        yield api


def runs(api: Api, dag_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api("GET", f"/api/v2/dags/{dag_id}/dagRuns")["dag_runs"]
    return found


def task_states(api: Api, dag_id: str, run_id: str) -> dict[str, str]:
    path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances?limit=200"
    return {task["task_id"]: task["state"] for task in api("GET", path)["task_instances"]}


def task_log(api: Api, dag_id: str, run_id: str, task_id: str) -> str:
    path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/1"
    told = []
    for line in api("GET", path)["content"]:
        told.append(str(line.get("event", line)))
        told += [str(error["exc_value"]) for error in line.get("error_detail") or ()]
    return "\n".join(told)[-6000:]


def finished_run(api: Api, dag_id: str, count: int = 1) -> dict[str, str]:
    """Wait for the DAG's run number `count` and return its tasks' states.

    A task that fails, even if it would be tried again, ends the wait with its log; a run that does
    not come ends it with what its tasks are at.
    """
    tasks: dict[str, str] = {}

    def states() -> dict[str, str] | None:
        nonlocal tasks
        found = sorted(runs(api, dag_id), key=lambda run: run["run_after"])
        if len(found) < count:
            return None
        run = found[count - 1]
        tasks = task_states(api, dag_id, run["dag_run_id"])
        for task_id, state in tasks.items():
            if state in ("failed", "up_for_retry"):
                log = task_log(api, dag_id, run["dag_run_id"], task_id)
                raise AssertionError(f"{dag_id}.{task_id} is {state}:\n{log}")
        return tasks if run["state"] in ("success", "failed") else None

    try:
        return wait_for(states, f"run {count} of {dag_id}")
    except TimeoutError as error:
        raise TimeoutError(f"{error} Its tasks: {tasks}") from error


@contextmanager
def service(project: Path) -> Iterator[str]:
    """Start the service as `bentoml serve` does, on a free port; yield its address."""
    port = free_port()
    env = airflow_env(project / "airflow_home", project)
    command = [sys.executable, "-m", "bentoml", "serve", "--port", str(port)]
    with running(command, project, env, project / "service.log") as server:
        address = f"http://localhost:{port}"

        def is_up() -> bool:
            assert server.poll() is None, (project / "service.log").read_text(encoding="utf-8")
            try:
                return bool(recommended(address)["songs"])
            except (OSError, urllib.error.HTTPError):
                return False

        wait_for(is_up, "the service", 120)
        yield address


def recommended(address: str) -> dict[str, Any]:
    """Ask the service for songs for a new listener."""
    request = urllib.request.Request(
        f"{address}/recommend",
        data=json.dumps({"user_id": None, "session": [], "k": 3}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with open_local(request, timeout=30) as response:
        answer: dict[str, Any] = json.load(response)
    return answer
