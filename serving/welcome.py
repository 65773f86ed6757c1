"""Start the service and, once it answers, say where it is and show one example answer."""

import argparse
import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Any, Final

from features.localhost import open_local

WAIT_SECONDS: Final = 120


def fetch(url: str, body: dict[str, Any] | None = None) -> Any:
    """Return the JSON answer of a local address."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with open_local(request, timeout=30) as response:
        return json.load(response)


def refuse_taken(port: int) -> None:
    """End with a sentence if others listen there: their answers would be taken for ours."""
    with socket.socket() as ours:
        # As BentoML's: what has just been left may be taken.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            ours.bind(("", port))
        except OSError as error:
            sys.exit(
                f"Port {port} cannot be had ({error.strerror}); choose another: PORT=... make run"
            )


def wait_until_ready(base: str, service: subprocess.Popen[bytes]) -> None:
    """Wait for the service to answer.

    Raises
    ------
    RuntimeError
        If it stops, or does not answer in time.
    """
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        if service.poll() is not None:
            raise RuntimeError(f"The service stopped with exit code {service.returncode}.")
        try:
            open_local(f"{base}/readyz", timeout=2).close()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"The service did not answer at {base} within {WAIT_SECONDS} s.")


def told(base: str) -> str:
    """Return an example, or why there is none: the service runs all the same."""
    try:
        return example(base)
    except OSError as error:
        return f"No example: {error} (with SEGUE_API_KEYS set, requests need a key)."


def example(base: str) -> str:
    """Return one question and its answer, as text."""
    listeners = fetch(f"{base}/listeners?k=1")["listeners"]
    body = {"user_id": listeners[0]["user_id"] if listeners else None, "k": 5, "explain": True}
    answer = fetch(f"{base}/recommend", body)
    lines = [f"One example: POST {base}/recommend {json.dumps(body)}"]
    for place, song in enumerate(answer["songs"], start=1):
        title = song["title"] or f"song {song['song_id']}"
        artists = ", ".join(song["artists"] or [])
        why = "; ".join(song["reasons"])
        lines.append(f"  {place}. {title}{' by ' + artists if artists else ''} ({why})")
    return "\n".join(lines)


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--port", type=int, default=3000)
    parser.add_argument("--look", action="store_true", help="see whether the port is free, no more")
    options = parser.parse_args()
    port, base = options.port, f"http://localhost:{options.port}"
    refuse_taken(port)
    if options.look:
        return
    service = subprocess.Popen(["bentoml", "serve", "--port", str(port)])
    # `make run` ends when the service does, and stops it when it is stopped itself.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: service.send_signal(signal.SIGINT))
    try:
        wait_until_ready(base, service)
        sys.stdout.write(f"{told(base)}\n\nThe player is at {base}/ and the API at {base}/docs\n")
        sys.stdout.flush()
        if service.wait() > 0:
            raise RuntimeError(f"The service stopped with exit code {service.returncode}.")
    except RuntimeError as error:
        sys.exit(f"{error} See its log above.")
    finally:
        service.terminate()
        service.wait()


if __name__ == "__main__":
    main()
