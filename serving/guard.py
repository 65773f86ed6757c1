"""Refuses bodies that are too large, too deep or not JSON before anything reads them."""

import re
import time
from typing import Final

import numpy as np
from pydantic import ValidationError
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.api import faults, listed
from serving.deadline import arrived

MAX_BYTES: Final = 4 * 1024 * 1024
MAX_DEPTH: Final = 32
# As many as a batch has events.
MOST_FAULTS: Final = 1_000
JSON: Final = "application/json"
# The server heeds no upgrade, and loses the body that came with it.
LOST: Final = (
    "The body was lost, since the request asks to go on in another protocol (`Upgrade`, as curl's "
    "--http2 and Java's HttpClient do by themselves). Send it as plain HTTP/1.1, in Java with "
    "HttpClient.Version.HTTP_1_1."
)
# In one pass, whatever comes: a string without an end is one, too, up to the last byte.
_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_OPENING: Final = np.frombuffer(b"[{", np.uint8)
_CLOSING: Final = np.frombuffer(b"]}", np.uint8)


class BodyGuard:
    """ASGI middleware: POST bodies are JSON of at most `MAX_BYTES` and `MAX_DEPTH` levels.

    Else 415, 413 or 400. Answers to those name the worker in the header `x-worker`.
    """

    def __init__(self, app: ASGIApp, worker: str = "") -> None:
        self.app = app
        self.worker = worker.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a refused body, pass everything else on."""
        arrived.set(time.monotonic())
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        kind = headers.get(b"content-type", "").split(";")[0].strip().lower()
        length = headers.get(b"content-length", "0")
        if kind not in (JSON, ""):
            refusal = wrong_kind(kind)
        elif length.isdecimal() and int(length) > MAX_BYTES:
            refusal = too_large()
        else:
            # Read whole here: a body of no stated length shows its size only by arriving.
            messages = await read(receive)
            # How long the network takes to bring it is not the answer's time.
            arrived.set(time.monotonic())
            if messages and messages[-1]["type"] == "http.disconnect":
                # Gone in the middle of a sentence: there is nobody to answer, and half a body is
                # none.
                return
            body = b"".join(m.get("body", b"") for m in messages or ())
            if messages is None:
                refusal = too_large()
            elif not body and length != "0" and b"upgrade" in headers:
                refusal = refused(400, LOST)
            elif body and not kind:
                # Browsers send such a body to any site without asking it first.
                refusal = wrong_kind(kind)
            elif depth(body) > MAX_DEPTH:
                refusal = refused(400, f"The body nests deeper than {MAX_DEPTH} lists and objects.")
            else:
                await self.app(scope, replayed(messages, receive), self._named(send))
                return
        await refusal(scope, receive, send)

    def _named(self, send: Send) -> Send:
        """Return a `send` that says in a header which worker answers."""

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"x-worker", self.worker)]
            await send(message)

        return named


def too_large() -> JSONResponse:
    """Return the refusal of a body that is."""
    return refused(413, f"The body is larger than {MAX_BYTES} bytes; send a shorter one.")


async def read(receive: Receive) -> list[Message] | None:
    """Return the messages of a body, None where it is longer than `MAX_BYTES`."""
    messages: list[Message] = []
    size = 0
    while True:
        message = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
        if size > MAX_BYTES:
            return None
        if not message.get("more_body", False):
            return messages


def depth(body: bytes) -> int:
    """Return how deep the lists and objects of a JSON text nest.

    What stands in strings does not count. Of a text with few brackets only their number, which is
    an upper bound.
    """
    count = body.count(b"[") + body.count(b"{")
    if count <= MAX_DEPTH:
        return count
    marks = np.frombuffer(_STRING.sub(b"", body), np.uint8)
    steps = np.isin(marks, _OPENING).astype(np.int32) - np.isin(marks, _CLOSING)
    return int(np.cumsum(steps).max(initial=0))


def replayed(messages: list[Message], receive: Receive) -> Receive:
    """Return a `receive` that gives these messages first, then what follows them."""
    waiting = iter(messages)

    async def replay() -> Message:
        message = next(waiting, None)
        return await receive() if message is None else message

    return replay


def refused(status: int, error: str) -> JSONResponse:
    """Return an error answer in the shape of BentoML's own."""
    return JSONResponse({"error": error}, status_code=status)


def wrong_kind(kind: str) -> JSONResponse:
    """Return the 415 of a body that does not say that it is JSON."""
    return refused(415, f"content-type: send the body as {JSON}, not {kind!r}.")


def not_as_described(error: ValidationError) -> JSONResponse:
    """Return the 400 of a body that its type refuses: which fields, and why, the first of them."""
    answer = {"error": faults(error), "detail": listed(error, MOST_FAULTS)}
    return JSONResponse(answer, status_code=400)
