"""Dayparts: the 28 six-hour blocks of a listener's local week."""

from typing import Any, Final

from features.times import DAY_SECONDS

DAYPARTS: Final = 28
WEEKDAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
BLOCKS: Final = ("00-06", "06-12", "12-18", "18-24")
_BLOCK_SECONDS: Final = 21_600


def local_daypart(epoch_seconds: Any, utc_offset_minutes: Any) -> Any:
    """Return the daypart, weekday * 4 + hour // 6 with Monday 0, in the listener's local time.

    Plain arithmetic, so numbers, NumPy arrays and Ibis columns all go in and come out.

    Examples
    --------
    >>> local_daypart(0, 0)  # 1970-01-01 was a Thursday
    12
    >>> local_daypart(0, -60)  # still Wednesday evening
    11
    """
    local = epoch_seconds + utc_offset_minutes * 60
    weekday = (local // DAY_SECONDS + 3) % 7
    return weekday * 4 + local % DAY_SECONDS // _BLOCK_SECONDS


def block_of(hour: int) -> str:
    """Return the name of the six hours that an hour lies in.

    Examples
    --------
    >>> block_of(17)
    '12-18'
    """
    return BLOCKS[hour // 6]
