"""The route of `POST /events`, and how its errors are told."""

import logging
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from serving.described import GUARDED, NOT_WRITTEN, POSTED
from serving.events import EventBatch, EventDesk, EventsAnswer
from serving.guard import not_as_described
from serving.refusals import Unavailable

log = logging.getLogger("serving.event_routes")


def _body() -> dict[str, Any]:
    """Return the body's schema in one; a reference would be looked for in the whole document."""
    schema = EventBatch.model_json_schema()
    event = schema.pop("$defs")["ClientEvent"]
    schema["properties"]["events"]["items"] = event
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def add_events(app: FastAPI, desk: Callable[[], EventDesk]) -> None:
    """Add the route; `desk` gives what takes the events."""
    refused = POSTED | NOT_WRITTEN | GUARDED

    @app.post("/events", responses=refused, openapi_extra={"requestBody": _body()})
    async def events(request: Request) -> EventsAnswer:
        """Write events down; answers once they are durable. Sending a batch again is safe.

        An event whose `event_id` is known stays as it was first written. An event that breaks the
        data contract by its time is refused by name; the rest of its batch is written.
        """
        return await desk().take(EventBatch.model_validate_json(await request.body()))

    @app.exception_handler(ValidationError)
    async def wrong(_: Request, error: ValidationError) -> JSONResponse:
        return not_as_described(error)

    @app.exception_handler(Unavailable)
    async def unavailable(_: Request, error: Unavailable) -> JSONResponse:
        log.warning("No event was written (%s): %s", error.reason, error)
        return JSONResponse(
            {"error": f"The event log is {error.reason}; send the batch again."},
            status_code=503,
            headers={"Retry-After": str(error.retry_seconds)},
        )
