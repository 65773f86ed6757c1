"""`POST /events`: what it takes and answers, and the desk that writes it down.

An event is acknowledged only once it is on disk. Sending a batch again is always safe.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from prometheus_client import Counter
from pydantic import BaseModel, ConfigDict, Field

from features.columns import ActionName, Event
from features.contract import BEFORE_2000, IN_THE_FUTURE
from features.params import Moment
from features.times import EPOCH, FIRST_MOMENT, microseconds
from serving.api import DAY_MS, TRIMMED, Id, StrictModel
from serving.batching import Batcher, FullError
from serving.event_log import RECEIVED, EventLog
from serving.logged import CLOCK_SLACK
from serving.refusals import Unavailable

MAX_EVENTS: Final = 1000
MOST_BATCHES: Final = 256
LARGEST_GROUP: Final = 64
ANSWER_SECONDS: Final = 8.0
Text = Annotated[str, Field(min_length=1, max_length=64, pattern=TRIMMED)]

EXAMPLE: Final[dict[str, Any]] = {
    "events": [
        {
            "event_id": "6f0c3a5e-1",
            "user_id": "u0000012",
            "song_id": "s0000078",
            "session_id": "evening-7",
            "action": "skip",
            "played_ms": 9000,
            "surface": "recommended",
            "request_id": "6f0c3a5e0d8f4c6f9a55f3f5f1f0f6a1",
            "position": 1,
            "propensity": 1.0,
        }
    ]
}

events_total = Counter(
    "segue_events_total", "Events taken, by what became of them.", labelnames=["outcome"]
)


class ClientEvent(StrictModel):
    """One action of one listener on one song. `ts` is now where it is not given."""

    event_id: Id
    user_id: Id
    song_id: Id
    session_id: Id
    action: ActionName
    ts: Moment | None = None
    played_ms: Annotated[int, Field(ge=0, le=DAY_MS)] | None = None
    surface: Text | None = None
    occasion: Text | None = None
    mood: Text | None = None
    activity: Text | None = None
    device: Text | None = None
    request_id: Id | None = None
    position: Annotated[int, Field(ge=0, le=10_000)] | None = None
    propensity: Annotated[float, Field(gt=0, le=1)] | None = None
    variant: Text | None = None
    model_version: Id | None = None


class EventBatch(StrictModel):
    """Events to be written down, in any order."""

    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    events: Annotated[list[ClientEvent], Field(min_length=1, max_length=MAX_EVENTS)]


class RefusedEvent(BaseModel):
    """An event that breaks a rule of the data contract, and which; it is not in the log."""

    event_id: str
    reason: str


class EventsAnswer(BaseModel):
    """How many events are new, how many were known by their id, and which were refused."""

    new: int
    known: int
    refused: list[RefusedEvent]


class Clock:
    """The time in UTC that does not go back when the machine's clock does.

    A step back of more than `CLOCK_SLACK` is taken to be a clock that was put right: answers heed
    no event further ahead than that, and would not know what is done from now on.
    """

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.now = now
        self._last = EPOCH
        self._lock = threading.Lock()

    def take(self, count: int) -> datetime:
        """Return the first of `count` microseconds that are later than all taken before."""
        with self._lock:
            first = self.now()
            if first <= self._last <= first + CLOCK_SLACK:
                first = self._last + timedelta(microseconds=1)
            self._last = first + timedelta(microseconds=count - 1)
            return first


class EventDesk:
    """Takes batches, writes those that wait in one transaction, and says what became of each."""

    def __init__(self, log: EventLog) -> None:
        self.log = log
        self.clock = Clock()
        self._batcher: Batcher[list[dict[str, Any]], int] = Batcher(
            log.append, "event-log", MOST_BATCHES, LARGEST_GROUP
        )

    async def take(self, batch: EventBatch) -> EventsAnswer:
        """Write a batch; returns once it is durable.

        Raises
        ------
        Unavailable
            If it could not be written, or not in time; it may be sent again.
        """
        rows, refused = checked(batch.events, self.clock)
        new = 0
        if rows:
            try:
                waiting = asyncio.wrap_future(self._batcher.submit(rows))
                new = await asyncio.wait_for(waiting, ANSWER_SECONDS)
            except FullError as error:
                raise Unavailable("locked", str(error)) from error
            except TimeoutError as error:
                raise Unavailable("locked", "The event log did not answer in time.") from error
        answer = EventsAnswer(new=new, known=len(rows) - new, refused=refused)
        for outcome, count in (("new", new), ("known", answer.known), ("refused", len(refused))):
            events_total.labels(outcome).inc(count)
        return answer

    def close(self) -> None:
        """Write what waits."""
        self._batcher.stop()


def checked(
    events: Sequence[ClientEvent], clock: Clock
) -> tuple[list[dict[str, Any]], list[RefusedEvent]]:
    """Return the rows of the good events, and the others with the import's reason.

    Events without a time get the clock's, a microsecond apart, in their order; so do those ahead
    of it by no more than clocks differ, as the import takes no time that is still to come.
    """
    first = clock.take(len(events))
    received = microseconds(first)
    rows, refused = [], []
    for place, event in enumerate(events):
        own = first + timedelta(microseconds=place)
        moment = min(event.ts or own, own)
        if event.ts and (reason := broken_rule(event.ts, first)):
            refused.append(RefusedEvent(event_id=event.event_id, reason=reason))
            continue
        rows.append(event.model_dump() | {Event.TS: microseconds(moment), RECEIVED: received})
    return rows, refused


def broken_rule(ts: datetime, now: datetime) -> str | None:
    """Return which rule of the contract a time breaks: it is to come, by more than clocks differ.

    Or it lies before any listening was logged.
    """
    if ts > now + CLOCK_SLACK:
        return f"{Event.TS}: {IN_THE_FUTURE}"
    return f"{Event.TS}: {BEFORE_2000}" if ts < FIRST_MOMENT else None
