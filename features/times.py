"""Units of time, and the moments and spans that several modules go by."""

import argparse
from datetime import UTC, datetime, timedelta
from typing import Final

SECOND_US: Final = 1_000_000
DAY_SECONDS: Final = 86_400
DAY_US: Final = DAY_SECONDS * SECOND_US
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# No listening was logged before; earlier times are of clocks that were never set.
FIRST_MOMENT: Final = datetime(2000, 1, 1, tzinfo=UTC)
# After a longer pause another session begins.
SESSION_PAUSE: Final = timedelta(minutes=30)
# How far clocks are from UTC anywhere on Earth, in minutes.
UTC_OFFSETS: Final = (-720, 840)
# A long pop song: what a full listening counts as where the source has no durations.
USUAL_DURATION_MS: Final = 240_000


def microseconds(moment: datetime) -> int:
    """Return the whole microseconds since 1970."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def asked_moment(text: str) -> datetime:
    """Return `parsed`, for argparse: what is no moment ends with a sentence that shows one."""
    try:
        return parsed(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no moment such as 2026-11-01T00:00Z") from None


def parsed(text: str) -> datetime:
    """Return the moment that an ISO 8601 text names, in UTC where it names no zone.

    Raises
    ------
    ValueError
        If it names none.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text} lies outside the years 1 to 9999 in UTC.") from error
    return moment
