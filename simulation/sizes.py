"""How much to simulate. Why the periods are what they are: docs/simulation.md."""

from dataclasses import dataclass
from datetime import date, timedelta


@dataclass(frozen=True)
class Size:
    """Numbers of a run.

    Attributes
    ----------
    listeners, songs : int
        How many sign up, and how many are released, until the end.
    start : date
        First day (UTC).
    days : int
        Length of the period.
    sessions_per_day : float
        Mean over listeners.
    chunk_listeners : int
        Listeners simulated at once; bounds memory and does not change the result.
    part_rows : int
        A part is written once it holds this many events, at the next midnight (UTC).
    """

    listeners: int
    songs: int
    start: date
    days: int
    sessions_per_day: float
    chunk_listeners: int = 4_096
    part_rows: int = 250_000

    @property
    def end(self) -> date:
        """First day after the period."""
        return self.start + timedelta(days=self.days)


SIZES = {
    "tiny": Size(180, 600, date(2023, 11, 29), 28, 0.7, part_rows=20_000),
    "default": Size(4_000, 10_000, date(2023, 11, 1), 56, 0.58),
    "large": Size(40_000, 60_000, date(2023, 11, 1), 168, 0.65, part_rows=1_000_000),
}
