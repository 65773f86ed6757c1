"""A question to the recommender: who, when, what was played so far, in what context."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, get_args

from features.columns import Action
from features.times import microseconds

# A listener's or a song's features by name.
Row = dict[str, Any]

Mode = Literal["balanced", "familiar", "discover", "popular", "deep_cuts"]
MODES: Final[tuple[Mode, ...]] = get_args(Mode)
# The latest events of a session that are heeded, in training and evaluation as in an answer.
MAX_SESSION: Final = 500


@dataclass(frozen=True)
class SessionEvent:
    """One action of the running session. `played_ms` is None where it is not known."""

    song_id: str
    action: str = Action.PLAY
    played_ms: int | None = None


@dataclass(frozen=True)
class Wishes:
    """How an answer is to be bent and what it may hold; the default bends and bars nothing.

    `seed_songs` and `seed_artist` start a radio, `less_like` names songs of which (and of whose
    like) less is wanted. With `heed_context` songs that match the query's context are brought up;
    without, the ranker alone judges it. `spacing` keeps songs of one artist or album apart.
    Songs in a refused language are barred, and explicit ones where they are not allowed. With
    `fill`, songs of the session come again before an answer falls short.
    """

    mode: Mode = "balanced"
    seed_songs: tuple[str, ...] = ()
    seed_artist: str | None = None
    less_like: tuple[str, ...] = ()
    heed_context: bool = False
    spacing: bool = False
    refused_languages: frozenset[str] = frozenset()
    allow_explicit: bool = True
    fill: bool = False


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
    wishes: Wishes = Wishes()

    @property
    def ts_us(self) -> int:
        """The moment in whole microseconds since 1970."""
        return microseconds(self.ts)
