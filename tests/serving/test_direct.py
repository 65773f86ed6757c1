"""Answers in front of BentoML's own handling, whatever goes on behind them."""

import asyncio
from collections.abc import Iterator
from typing import Any

from serving.api import RecommendRequest
from serving.direct import PATH, Direct
from serving.stages import Stages, current


class Growing(dict[str, float]):
    """Seconds of an answer whose work goes on: there are more whenever one was looked at."""

    def __iter__(self) -> Iterator[str]:
        for name in super().__iter__():
            yield name
            self[f"late-{len(self)}"] = 0.0


async def never(*args: Any) -> None:
    raise AssertionError(f"Nothing else answers: {args}")


def test_work_behind_a_late_answer_neither_spoils_its_header_nor_adds_to_what_is_counted() -> None:
    sent: list[Any] = []
    observed: list[Stages] = []

    async def recommend(request: RecommendRequest) -> dict[str, Any]:
        del request
        stages = current()
        assert stages is not None
        stages.seconds = Growing(read=0.5)
        return {"songs": []}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}"}

    async def send(message: Any) -> None:
        sent.append(message)

    direct = Direct(never, recommend, lambda _, stages: observed.append(stages), lambda: None)
    scope = {"type": "http", "method": "POST", "path": PATH, "headers": []}
    asyncio.run(direct(scope, receive, send))
    assert sent[0]["status"] == 200
    assert dict(sent[0]["headers"])[b"server-timing"].startswith(b"read;dur=500.0, write;dur=")
    assert list(observed[0].seconds) == ["read", "write", "total"]
