"""Every refusal has one shape: `error`, a text, and `detail`, the faults one by one, if any."""

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.guard import refused


class Fault(BaseModel):
    """What is wrong with one field: where it is, which kind of fault, and in words."""

    type: str
    loc: list[str | int]
    msg: str
    ctx: dict[str, object] = {}


class Refusal(BaseModel):
    """Why there is no answer; `detail` has the faults of a body or of parameters one by one."""

    error: str
    detail: list[Fault] = []


def add_refusals(app: FastAPI) -> None:
    """Let an app refuse in this shape."""

    @app.exception_handler(HTTPException)
    async def missing(_: Request, error: HTTPException) -> JSONResponse:
        answer = refused(error.status_code, error.detail)
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(RequestValidationError)
    async def wrong(_: Request, error: RequestValidationError) -> JSONResponse:
        found = [{name: one[name] for name in one if name != "input"} for one in error.errors()]
        told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in found)
        return JSONResponse({"error": told, "detail": found}, status_code=422)


class InShape:
    """ASGI middleware: refusals in plain text, as those of routers are, get the shape of others."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; hold a plain refusal until its text is there."""
        held: Message | None = None

        async def shaped(message: Message) -> None:
            nonlocal held
            if is_plain_refusal(message):
                held = message
            elif held is None:
                await send(message)
            else:
                answer = refused(held["status"], message["body"].decode())
                answer.raw_headers += [one for one in held["headers"] if one[0] == b"allow"]
                await answer(scope, receive, send)

        await self.app(scope, receive, shaped if scope["type"] == "http" else send)


def is_plain_refusal(message: Message) -> bool:
    """Tell whether an answer begins that refuses in plain text."""
    if message["type"] != "http.response.start" or message["status"] < 400:
        return False
    return dict(message["headers"]).get(b"content-type", b"").startswith(b"text/plain")
