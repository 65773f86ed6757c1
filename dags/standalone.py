"""Start Airflow with the project's DAGs and say where it is: what `make airflow` runs.

Everything that Airflow keeps lies under `AIRFLOW_HOME` (default `airflow_home` in the project).
`PORT` chooses the port of the page and the API (default 8080).
"""

import argparse
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

PROJECT = Path(__file__).resolve().parent.parent
DAGS = ("ingest", "features", "train", "deploy")
POOL = {"name": "dvc", "slots": 1, "description": "One DVC command at a time"}
USER = "admin"
# How often a running Airflow is looked at, and how long a part of it may be gone.
LOOK_SECONDS = 10.0
GONE_SECONDS = 180.0
# `urlopen` would ask a proxy for localhost, too.
_open_local: Final = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class Api:
    """Airflow's REST API, as the user that `standalone` makes."""

    def __init__(self, address: str, password: str) -> None:
        self.address = address
        self.password = password
        self.token = ""

    def login(self) -> None:
        """Fetch a token; `urllib.error.HTTPError` if name or password are wrong."""
        answer = self("POST", "/auth/token", {"username": USER, "password": self.password})
        self.token = answer["access_token"]

    def __call__(self, method: str, path: str, body: object = None) -> Any:
        """Send a request and return the JSON answer; errors are those of `urllib`."""
        request = urllib.request.Request(
            self.address + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"},
        )
        with _open_local(request, timeout=30) as response:
            return json.load(response)


def environment(home: Path, port: int) -> dict[str, str]:
    """Return the process environment for Airflow: this project's DAGs, nothing else's."""
    address = f"http://localhost:{port}"
    return {
        # What the operator may set otherwise.
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__PARALLELISM": "4",
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{address}/execution/",
        "AIRFLOW__API__BASE_URL": address,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def password(home: Path) -> str:
    """Return the password that Airflow generated; `FileNotFoundError` before its first start."""
    text = (home / "simple_auth_manager_passwords.json.generated").read_text(encoding="utf-8")
    return str(json.loads(text)[USER])


def is_up(address: str) -> bool:
    """Return whether an Airflow answers at the address with its parts healthy."""
    try:
        health = Api(address, "")("GET", "/api/v2/monitor/health")
    except (OSError, ValueError):
        return False
    parts = ("metadatabase", "scheduler", "dag_processor")
    return all(health.get(part, {}).get("status") == "healthy" for part in parts)


def wait_until(condition: Callable[[], bool], what: str, airflow: subprocess.Popen[bytes]) -> None:
    """Poll until the condition holds; RuntimeError if Airflow ends first."""
    sys.stdout.write(f"{what} ...\n")
    sys.stdout.flush()
    while not condition():
        if airflow.poll() is not None:
            raise RuntimeError(
                f"Airflow ended with code {airflow.returncode} instead of starting; its log, named "
                "above, says why."
            )
        time.sleep(0.5)


def make_pool(api: Api) -> None:
    """Make the pool that keeps DVC commands one at a time, unless it exists."""
    try:
        api("POST", "/api/v2/pools", POOL)
    except urllib.error.HTTPError as error:
        if error.code != 409:
            raise


def has_dags(api: Api) -> bool:
    """Return whether all DAGs of the project have been read."""
    found = {dag["dag_id"] for dag in api("GET", "/api/v2/dags")["dags"]}
    return found >= set(DAGS)


def show(address: str, home: Path) -> None:
    """Print address and login."""
    sys.stdout.write(
        f"\nAirflow is ready\n  address   {address}\n  user      {USER}\n"
        f"  password  {password(home)}\n  DAGs      {', '.join(DAGS)}\n"
        "  `ingest` runs daily only while it is switched on there.\n\n"
    )
    sys.stdout.flush()


def stop(airflow: subprocess.Popen[bytes]) -> None:
    """End Airflow and all its parts."""
    for ending in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(airflow.pid, ending)
        with suppress(subprocess.TimeoutExpired):
            airflow.wait(timeout=20)


def serve(home: Path, port: int, held: int) -> int:
    """Start Airflow, wait until it is usable, show where it is, and stay until it ends.

    `held` is the descriptor of the locked file: Airflow keeps it, should it outlive this process.
    """
    address = f"http://localhost:{port}"
    log = home / "standalone.log"
    sys.stdout.write(f"Starting Airflow (log: {log})\n")
    with log.open("ab") as stream:
        airflow = subprocess.Popen(
            [sys.executable, "-m", "airflow", "standalone"],
            env=environment(home, port),
            cwd=PROJECT,
            stdout=stream,
            stderr=subprocess.STDOUT,
            # Its own group, so that all its parts can be told to end.
            start_new_session=True,
            pass_fds=(held,),
        )
    try:
        wait_until(lambda: is_up(address), "Waiting for scheduler, DAG processor, API", airflow)
        api = Api(address, password(home))
        api.login()
        make_pool(api)
        wait_until(lambda: has_dags(api), "Waiting for the DAGs", airflow)
        show(address, home)
        sys.stdout.write("Press Ctrl-C to stop.\n")
        sys.stdout.flush()
        return watch(airflow, address)
    except KeyboardInterrupt:
        return 0
    finally:
        stop(airflow)


def watch(airflow: subprocess.Popen[bytes], address: str) -> int:
    """Stay until Airflow ends, or a part of it is gone for long; return the exit code."""
    well = time.monotonic()
    while True:
        with suppress(subprocess.TimeoutExpired):
            return airflow.wait(LOOK_SECONDS)
        if is_up(address):
            well = time.monotonic()
        elif time.monotonic() - well > GONE_SECONDS:
            sys.stderr.write(
                "A part of Airflow (database, scheduler or DAG processor) has not been healthy for "
                f"{GONE_SECONDS:.0f} seconds: it is stopped; its log, named above, says why. Start "
                "it again with `make airflow`: runs go on where they were.\n"
            )
            return 1


def tell_where(address: str, home: Path) -> int:
    """Say where the Airflow of this folder is, or is about to be."""
    if is_up(address):
        sys.stdout.write("Airflow runs already.\n")
        show(address, home)
    else:
        sys.stdout.write(
            f"Airflow is being started already, at {address}, or a part of it is not healthy.\n"
        )
    return 0


def main(arguments: Sequence[str] = ()) -> int:
    """Start Airflow, or say where it is if it runs already, on whatever port."""
    # What it can be told, the environment says; `--help` must not start it.
    argparse.ArgumentParser(description=__doc__).parse_args(arguments)
    # `kill` ends it as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    home = PROJECT / os.environ.get("AIRFLOW_HOME", "airflow_home")
    port = int(os.environ.get("PORT", "8080"))
    home.mkdir(parents=True, exist_ok=True)
    with (home / "address").open("a+", encoding="utf-8") as held:
        try:
            # Two would share one database.
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            held.seek(0)
            return tell_where(held.read(), home)
        with socket.socket() as probe:
            if probe.connect_ex(("localhost", port)) == 0:
                sys.stderr.write(
                    f"Port {port} is taken by another program; choose one with PORT=.\n"
                )
                return 1
        held.truncate(0)
        held.write(f"http://localhost:{port}")
        held.flush()
        return serve(home, port, held.fileno())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
