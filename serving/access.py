"""Who may ask for what, and how often: API keys with rights, and a token bucket for each client.

Both are off unless the environment names them. A key is 32 random bytes; the environment holds only
its SHA-256, so that who reads the environment cannot use it. To make one:

    python -m serving.access player recommend events
"""

import argparse
import hashlib
import hmac
import re
import secrets
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from features.paths import api_keys, request_rate
from serving.guard import refused

RECOMMEND, EVENTS, OPERATE = "recommend", "events", "operate"
RIGHTS: Final = (RECOMMEND, EVENTS, OPERATE)
# What everybody may see: health, the pages themselves and the documentation.
OPEN: Final = {
    "",
    "/operator",
    "/docs",
    "/docs.json",
    "/schema.json",
    "/healthz",
    "/livez",
    "/readyz",
}
# The second holds what `/docs` is drawn with.
OPEN_BELOW: Final = ("/web/", "/static_content/")
RIGHT_OF: Final = {"/events": EVENTS, "/metrics": OPERATE}
MOST_CLIENTS: Final = 10_000
_ENTRY: Final = re.compile(r"([\w.-]+):([a-z+]+):([0-9a-f]{64})")


@dataclass(frozen=True)
class Key:
    """Who holds a key, what for, and its SHA-256 as hex digits."""

    name: str
    rights: frozenset[str]
    digest: str


def read_keys(text: str) -> tuple[Key, ...]:
    """Read `name:right+right:sha256` entries, separated by blanks.

    Raises
    ------
    ValueError
        If an entry has another form or an unknown right; the message does not repeat its digest.
    """
    keys = []
    for number, entry in enumerate(text.split(), start=1):
        found = _ENTRY.fullmatch(entry)
        rights = frozenset(found[2].split("+")) if found else frozenset()
        if found is None or not rights <= set(RIGHTS):
            raise ValueError(
                f"SEGUE_API_KEYS: entry {number} is not name:rights:sha256 with rights out of "
                f"{'+'.join(RIGHTS)}; make one with `python -m serving.access`."
            )
        keys.append(Key(found[1], rights, found[3]))
    return tuple(keys)


def right_for(path: str) -> str | None:
    """Return the right that a path asks for; None for what everybody may see."""
    plain = path.rstrip("/")
    if plain in OPEN or path.startswith(OPEN_BELOW):
        return None
    return RIGHT_OF.get(plain, RECOMMEND)


class Buckets:
    """A token bucket for each client: `rate` requests a second, `burst` of them at once.

    Of very many clients the ones not seen for longest are forgotten: they begin anew.
    """

    def __init__(
        self, rate: float, burst: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.rate = rate
        self.burst = burst
        self.now = now
        self._full: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait(self, client: str) -> float:
        """Take a token; return 0, or in how many seconds there is one."""
        with self._lock:
            now = self.now()
            tokens, seen = self._full.pop(client, (self.burst, now))
            tokens = min(tokens + (now - seen) * self.rate, self.burst)
            taken = tokens >= 1
            self._full[client] = (tokens - taken, now)
            if len(self._full) > MOST_CLIENTS:
                self._full.popitem(last=False)
            return 0.0 if taken else (1 - tokens) / self.rate


class AccessGuard:
    """ASGI middleware: 401 without a known key, 403 without its right, 429 if asked too often."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.keys = read_keys(api_keys())
        rate, burst = request_rate()
        self.buckets = Buckets(rate, burst) if rate else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a refused request, pass everything else on."""
        right = right_for(scope["path"]) if scope["type"] == "http" else None
        refusal = None if right is None else self._refusal(scope, right)
        await (refusal or self.app)(scope, receive, send)

    def _refusal(self, scope: Scope, right: str) -> JSONResponse | None:
        client = str((scope.get("client") or ("unknown",))[0])
        if self.keys:
            key = self._holder(scope)
            if key is None:
                answer = refused(401, "Send a known API key: Authorization: Bearer <key>.")
                answer.headers["WWW-Authenticate"] = "Bearer"
                return answer
            if right not in key.rights:
                return refused(403, f"The API key of {key.name} lacks the right {right!r}.")
            client = f"key {key.name}"
        if self.buckets and (seconds := self.buckets.wait(client)):
            answer = refused(429, "Too many requests; come again later.")
            answer.headers["Retry-After"] = str(int(seconds) + 1)
            return answer
        return None

    def _holder(self, scope: Scope) -> Key | None:
        said = dict(scope["headers"]).get(b"authorization", b"")
        kind, _, secret = said.partition(b" ")
        digest = hashlib.sha256(secret.strip()).hexdigest()
        # All are compared, each in constant time: the time taken tells nothing.
        found = [key for key in self.keys if hmac.compare_digest(key.digest, digest)]
        return found[0] if found and kind.lower() == b"bearer" else None


def main() -> None:
    """Make a key: the key for its holder, the entry for SEGUE_API_KEYS."""
    parser = argparse.ArgumentParser(prog="python -m serving.access", description=main.__doc__)
    parser.add_argument("name", help="who holds it: letters, digits, . _ -")
    parser.add_argument("rights", nargs="+", choices=RIGHTS)
    options = parser.parse_args()
    secret = secrets.token_urlsafe(32)
    digest = hashlib.sha256(secret.encode()).hexdigest()
    entry = f"{options.name}:{'+'.join(options.rights)}:{digest}"
    try:
        read_keys(entry)
    except ValueError:
        parser.error(f"the name {options.name!r} is not of letters, digits, . _ and - alone")
    sys.stdout.write(f"key (give it to {options.name}, it is kept nowhere): {secret}\n")
    sys.stdout.write(f"entry of SEGUE_API_KEYS: {entry}\n")


if __name__ == "__main__":
    main()
