"""`POST /recommend` answered before BentoML's own handling: the same bytes, sooner.

BentoML parses a body twice and takes each call to another thread and back. This middleware stands
inside its tracing, metrics and limits and in front of the rest.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from pydantic import ValidationError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.api import RecommendRequest, as_json, faults
from serving.guard import not_as_described, read, replayed
from serving.stages import Stages, stage

log = logging.getLogger("serving.direct")

PATH: Final = "/recommend"
METRICS: Final = "/metrics"
REQUEST_ID: Final = b"x-request-id"
TRACE: Final = b"x-segue-trace"
JSON: Final = (b"content-type", b"application/json")


class Direct:
    """ASGI middleware that answers `POST /recommend` with what `recommend` returns.

    Each answer is handed to `done`, which may put its work off; before metrics are read `catch_up`
    is called.
    """

    def __init__(
        self,
        app: ASGIApp,
        recommend: Callable[[RecommendRequest], Awaitable[dict[str, Any]]],
        done: Callable[[dict[str, Any], Stages], None],
        catch_up: Callable[[], None],
    ) -> None:
        self.app = app
        self.recommend = recommend
        self.done = done
        self.catch_up = catch_up

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for songs, pass everything else on."""
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            if scope["type"] == "http" and scope["path"] == METRICS:
                self.catch_up()
            await self.app(scope, receive, send)
            return
        # Never too large, as the guard has let it pass.
        messages = await read(receive) or []
        headers = dict(scope["headers"])
        try:
            request = RecommendRequest.model_validate_json(body_of(messages))
        except ValidationError as error:
            log.info("Refused a request: %s", faults(error))
            await not_as_described(error)(scope, receive, send)
            return
        stages = Stages(headers.get(REQUEST_ID, b"").decode("latin-1"))
        try:
            with stages:
                response = await self.recommend(request)
                with stage("write"):
                    body = as_json(response)
        except Exception:
            # The endpoint tries again, and says how it failed as it does for any other.
            log.exception("No answer to the request %s", stages.request_id)
            await self.app(scope, replayed(messages, receive), send)
            return
        # Work that goes on behind a late answer still adds to its stages.
        stages = stages.snapshot()
        own = [
            JSON,
            (b"content-length", str(len(body)).encode()),
            (b"server-timing", stages.header().encode()),
            (REQUEST_ID, stages.request_id.encode()),
        ]
        if headers.get(TRACE) == b"1":
            own.append((TRACE, stages.trace().encode()))
        await send({"type": "http.response.start", "status": 200, "headers": own})
        await send({"type": "http.response.body", "body": body})
        # Counted and logged once the answer is on its way.
        self.done(response, stages)


def body_of(messages: list[Message]) -> bytes:
    """Return a body that came in parts."""
    if len(messages) == 1:
        return bytes(messages[0].get("body", b""))
    return b"".join(message.get("body", b"") for message in messages)
