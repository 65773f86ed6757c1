"""A question to the recommender: who, when, what was played so far, in what context."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from features.columns import Action


@dataclass(frozen=True)
class SessionEvent:
    """One action of the running session. `played_ms` is None where it is not known."""

    song_id: str
    action: str = Action.PLAY
    played_ms: int | None = None


@dataclass(frozen=True)
class Query:
    """One request for next songs.

    `user` holds the listener's feature row (columns of `User` and `UserRow`); an empty mapping is
    an unknown listener. `context` may hold occasion, mood, activity, device, language, era, region.
    With `allow_repeats`, songs of the running session may be proposed again.
    """

    ts: datetime
    user: Mapping[str, Any] = field(default_factory=dict)
    session: tuple[SessionEvent, ...] = ()
    context: Mapping[str, Any] = field(default_factory=dict)
    exclude: frozenset[str] = frozenset()
    allow_repeats: bool = False
