"""Where the time of one request goes, and what its answer came from.

Code that works on a request says `with stage("rank"):`. Outside a request, as in training and
batch, that measures nothing.
"""

import json
import re
import secrets
from contextvars import ContextVar, Token
from time import perf_counter
from typing import Any, Final

ORDER: Final = ("read", "resolve", "retrieve", "features", "rank", "write", "total")
WELL_FORMED: Final = re.compile(r"[A-Za-z0-9._-]{8,64}")


class Stages:
    """The seconds of one request by stage; in use between `with`'s ends."""

    def __init__(self, request_id: str = "") -> None:
        self.request_id = request_id if WELL_FORMED.fullmatch(request_id) else new_id()
        self.seconds: dict[str, float] = {}
        self.facts: dict[str, Any] = {}
        self._begun = perf_counter()
        self._token: Token[Stages | None] | None = None

    def __enter__(self) -> "Stages":
        """Become the current request's."""
        self._token = _current.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the clock."""
        if self._token is not None:
            _current.reset(self._token)
        self.seconds["total"] = perf_counter() - self._begun

    def snapshot(self) -> "Stages":
        """Return a copy to which work that goes on behind its answer adds nothing."""
        copied = Stages(self.request_id)
        copied.seconds, copied.facts = dict(self.seconds), dict(self.facts)
        return copied

    def milliseconds(self) -> dict[str, float]:
        """Return the stages in their order, unknown ones last."""
        seconds = self.seconds
        names: list[str] = [name for name in ORDER if name in seconds]
        names += [name for name in seconds if name not in ORDER]
        return {name: round(seconds[name] * 1000, 3) for name in names}

    def header(self) -> str:
        """Return the value of a `Server-Timing` header."""
        return ", ".join(f"{name};dur={ms}" for name, ms in self.milliseconds().items())

    def trace(self) -> str:
        """Return everything that is known of the request, as JSON."""
        content = {"request_id": self.request_id, "ms": self.milliseconds()} | self.facts
        return json.dumps(content, separators=(",", ":"))


_current: ContextVar[Stages | None] = ContextVar("stages", default=None)


def current() -> Stages | None:
    """Return the current request's stages, None outside a request."""
    return _current.get()


def new_id() -> str:
    """Return an id that no other request has: 128 random bits as hex digits."""
    return secrets.token_hex(16)


def request_id() -> str:
    """Return the current request's id, a new one outside a request."""
    stages = _current.get()
    return new_id() if stages is None else stages.request_id


class stage:  # noqa: N801 - reads as a word of the language
    """Add the time of a block to a stage of the current request."""

    __slots__ = ("begun", "name")

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        """Start the clock."""
        self.begun = perf_counter()

    def __exit__(self, *_: object) -> None:
        """Add what has passed."""
        stages = _current.get()
        if stages is not None:
            seconds = stages.seconds
            seconds[self.name] = seconds.get(self.name, 0.0) + perf_counter() - self.begun
