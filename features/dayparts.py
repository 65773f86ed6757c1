"""Dayparts: the 28 six-hour blocks of a listener's local week."""

from typing import Any, Final

DAYPARTS: Final = 28
_DAY_SECONDS: Final = 86_400
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
    weekday = (local // _DAY_SECONDS + 3) % 7
    return weekday * 4 + local % _DAY_SECONDS // _BLOCK_SECONDS
