"""Requests are counted by path; all that nobody serves are one path.

BentoML makes some twenty time series of each path that is asked for and keeps them in memory, so
that whoever asks for ever new ones, key or not, would fill it and `/metrics`.
"""

from collections.abc import Callable
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send

OTHER: Final = "other"
_ASKED: Final = "segue.asked"


class Counted:
    """ASGI middleware around another, `counting`, which takes notes by a scope's path.

    Of `paths` those that end in a slash stand for all that is below them.
    """

    def __init__(
        self, app: ASGIApp, counting: Callable[..., ASGIApp], paths: frozenset[str], **options: Any
    ) -> None:
        self.counting = counting(as_asked(app), **options)
        self.paths = paths
        self.folders = tuple(path for path in paths if path.endswith("/"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request be counted, and answered as it was asked."""
        if scope["type"] in ("http", "websocket"):
            scope = {**scope, "path": self.counted_as(scope["path"]), _ASKED: scope}
        await self.counting(scope, receive, send)

    def counted_as(self, path: str) -> str:
        """Return the one of few paths that another is counted as."""
        if path in self.paths:
            return path
        # The root is no folder: everything is below it.
        return next((f for f in self.folders if f != "/" and path.startswith(f)), OTHER)


def as_asked(app: ASGIApp) -> ASGIApp:
    """Return an app that is told the path that was asked for."""

    async def asked(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope.get(_ASKED, scope), receive, send)

    return asked
