"""Turn the sessions of a phase into queries with known answers.

Every listening of a session is a query whose answer is the song played there: one before which
nothing of the session was heard is a session start, all others ask for the next song. A query
knows the session so far, the request's context and the listener's features at its own time,
nothing later, and nothing of that very moment.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from features.columns import Event
from features.pairs import missing
from features.params import Evaluation, Ranker
from features.query import MAX_SESSION, Query, Row, SessionEvent
from features.timelines import Timelines
from features.times import microseconds
from training.sessions import OUTCOME, PLACE


@dataclass(frozen=True)
class Labelled:
    """A query, the song that was played, what became of it, and the songs of the rest.

    The rest is at most `MAX_SESSION` listenings: else a session's queries took the square of its
    length.
    """

    query_id: str
    user_id: str
    query: Query
    place: int
    answer: str
    outcome: str
    rest: tuple[str, ...]
    rest_outcomes: tuple[str, ...]
    session_id: str | None = None
    # Whether the listening answered a recommendation.
    is_recommended: bool = False

    @property
    def is_start(self) -> bool:
        """Whether nothing of the session was heard yet."""
        return self.place == 0


@dataclass(frozen=True)
class Sample:
    """Which listenings are asked for: at most `max_queries`, drawn by the seed.

    At least `starts_share` of them are session starts, as far as there are so many.
    """

    max_queries: int
    seed: int
    starts_share: float = 0.0

    @classmethod
    def of(cls, how: Ranker | Evaluation) -> "Sample":
        """Take the settings of the ranker's labels, or of the evaluation."""
        return cls(how.max_queries, how.seed, how.starts_share)


def sample_positions(heard: pd.DataFrame, sample: Sample) -> pd.DataFrame:
    """Return the sample of some listenings, all of them where there are few enough."""
    if len(heard) <= sample.max_queries:
        return heard
    random = np.random.default_rng(sample.seed)
    starts = np.flatnonzero(heard[PLACE].to_numpy() == 0)
    first = random.permutation(starts)[: int(sample.max_queries * sample.starts_share)]
    others = np.setdiff1d(np.arange(len(heard)), first)
    rest = random.choice(others, sample.max_queries - len(first), replace=False)
    return heard.iloc[np.sort(np.concatenate([first, rest]))]


def labelled_queries(
    events: pd.DataFrame, heard: pd.DataFrame, asked: pd.DataFrame, rows: Iterable[Row]
) -> Iterator[Labelled]:
    """Yield one labelled query for each listening in `asked`.

    Parameters
    ----------
    events
        All events of the phase's sessions, by session and time.
    heard
        Their listenings, as `training.sessions.listenings` returns them.
    asked
        Rows of `heard`.
    rows
        What was known of the listener then, aligned with `asked`.
    """
    context = heard[list(Event.CONTEXT)].to_dict("records")
    songs, outcomes = heard[Event.SONG].to_numpy(), heard[OUTCOME].to_numpy()
    sessions = heard.groupby(Event.SESSION).indices
    so_far = Sessions.of(events)
    for here, row, user in zip(asked.index, asked.to_dict("records"), rows, strict=True):
        place, session = row[PLACE], sessions[row[Event.SESSION]]
        # This song first, then all others that were not heard before it.
        others = session[place:]
        rest = [here, *others[others != here]][:MAX_SESSION]
        yield Labelled(
            query_id=row[Event.ID],
            user_id=row[Event.USER],
            query=Query(
                ts=row[Event.TS].to_pydatetime(),
                user=user,
                session=so_far.before(row[Event.SESSION], row[Event.TS]),
                # The song asked for may carry its own context, so only a start reads it there.
                context=context[session[place - 1] if place else here],
                allow_repeats=True,
            ),
            place=place,
            answer=songs[here],
            outcome=row[OUTCOME],
            rest=tuple(songs[rest]),
            rest_outcomes=tuple(outcomes[rest]),
            session_id=row[Event.SESSION],
            is_recommended=not missing(row.get(Event.REQUEST)),
        )


@dataclass(frozen=True)
class Sessions:
    """Events of sessions, each session's in order of time."""

    events: list[SessionEvent]
    timelines: Timelines

    @classmethod
    def of(cls, events: pd.DataFrame) -> "Sessions":
        """Read events that are sorted by session and time."""
        columns = zip(
            events[Event.SONG], events[Event.ACTION], events[Event.PLAYED_MS], strict=True
        )
        return cls(
            [SessionEvent(s, a, None if missing(ms) else int(ms)) for s, a, ms in columns],
            Timelines.of(events[Event.SESSION], events[Event.TS]),
        )

    def before(self, session: str, moment: datetime) -> tuple[SessionEvent, ...]:
        """Return the session's latest events strictly before a moment."""
        so_far = self.timelines.before(session, microseconds(moment))
        return tuple(self.events[max(so_far.start, so_far.stop - MAX_SESSION) : so_far.stop])
