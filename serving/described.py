"""The OpenAPI of all that the service answers, the routes of BentoML among them.

BentoML's own description is of 3.0, where nothing is null: it took that from some of our fields and
left it in others, and knew other refusals than there are.
"""

from functools import cache
from typing import Annotated, Any, Final

from fastapi import FastAPI, Header
from fastapi.openapi.utils import get_openapi
from fastapi.responses import PlainTextResponse
from fastapi.routing import APIRoute

from serving.api import ANSWER, EXAMPLE, RecommendRequest, RecommendResponse
from serving.errors import Refusal
from serving.guard import MAX_BYTES

# After so long BentoML gives a request up.
TIMEOUT_SECONDS: Final = 10
RETRY: Final = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}


def refusals(told: dict[int, str], **more: Any) -> dict[int | str, dict[str, Any]]:
    """Return the refusals of a route, by status and why, in their shape."""
    return {status: {"description": why, "model": Refusal} | more for status, why in told.items()}


# Of every route but those that are open.
GUARDED: Final = refusals(
    {
        401: "Keys are asked for, and this is none.",
        403: "The key lacks the right.",
        500: "The service failed.",
        504: f"The request took more than {TIMEOUT_SECONDS} seconds, its body's way included.",
    }
) | refusals({429: "Asked too often."}, headers=RETRY)
POSTED: Final = refusals(
    {
        400: "The body is not as described; nothing was done.",
        413: f"The body is larger than {MAX_BYTES} bytes.",
        415: "The body is not said to be JSON.",
    }
)
ASKED: Final = refusals({422: "A parameter is not as described."})
NOT_READY: Final = refusals({503: "The service does not answer yet."})
NOT_WRITTEN: Final = refusals(
    {503: "The event log is full, locked or gone; send the batch again."}, headers=RETRY
)
ANSWERED: Final = {
    "X-Request-ID": {"description": "The `request_id`.", "schema": {"type": "string"}},
    "Server-Timing": {"description": "Milliseconds by stage.", "schema": {"type": "string"}},
    "X-Segue-Trace": {"description": "JSON, where asked for.", "schema": {"type": "string"}},
}


def recommend(
    request: RecommendRequest,
    x_request_id: Annotated[
        str | None, Header(description="Used where it is 8 to 64 of A-Za-z0-9._-.")
    ] = None,
    x_segue_trace: Annotated[str | None, Header(description="`1` asks for a trace.")] = None,
) -> RecommendResponse:
    """Return the next songs for a listener, best first; newcomers and empty sessions too."""
    raise NotImplementedError


def healthy() -> None:
    """Tell whether the service answers."""
    raise NotImplementedError


def counts() -> None:
    """Return the metrics in Prometheus' format."""
    raise NotImplementedError


def elsewhere() -> list[APIRoute]:
    """Return the routes that others answer, to be described only."""
    songs = APIRoute(
        "/recommend",
        recommend,
        methods=["POST"],
        operation_id="segue__recommend",
        responses={200: {"headers": ANSWERED}, **POSTED, **ASKED, **GUARDED},
    )
    health = [
        APIRoute(
            path, healthy, response_class=PlainTextResponse, name=path[1:], responses=NOT_READY
        )
        for path in ("/healthz", "/livez", "/readyz")
    ]
    metrics = APIRoute(
        "/metrics", counts, response_class=PlainTextResponse, name="metrics", responses=GUARDED
    )
    return [songs, *health, metrics]


def describe(app: FastAPI) -> None:
    """Let an app describe, beside its own, the routes that others answer."""

    @cache
    def described() -> dict[str, Any]:
        found = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=[*elsewhere(), *app.routes],
        )
        # Of parameters; FastAPI takes it for a body, too, and would add it where it is not named.
        del found["paths"]["/recommend"]["post"]["responses"]["422"]
        # FastAPI leaves out what is null.
        schemas = found["components"]["schemas"]
        schemas["RecommendRequest"]["example"] = EXAMPLE
        schemas["RecommendResponse"]["example"] = ANSWER
        # Keys are asked for only where some are set.
        found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        return found | {"security": [{}, {"key": []}]}

    app.openapi = described  # type: ignore[method-assign]
