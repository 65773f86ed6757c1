"""Why a database does not take or give rows, and when it makes sense to ask again."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

RETRY_SECONDS: Final = {"locked": 1, "full": 30, "gone": 5}
# Of PostgreSQL, whose messages are in the server's language: disk_full, lock_not_available,
# deadlock_detected, and query_canceled, as by a timeout.
_CODES: Final = {"53100": "full", "55P03": "locked", "40P01": "locked", "57014": "locked"}
_FULL: Final = ("disk is full", "no space left")
_LOCKED: Final = ("locked", "busy")


class Unavailable(RuntimeError):
    """The database does not take or give rows now.

    Attributes
    ----------
    reason
        `locked`, `full` or `gone`.
    retry_seconds
        When it makes sense to try again.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_seconds = RETRY_SECONDS[reason]


@contextmanager
def explained() -> Iterator[None]:
    """Turn what the database refuses into `Unavailable`, which says why."""
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        message = f"{type(cause).__name__}: {cause}".strip()
        code = str(getattr(cause, "sqlstate", None))
        raise Unavailable(_CODES.get(code) or _reason(message), message) from error


def _reason(message: str) -> str:
    words = message.lower()
    if any(word in words for word in _FULL):
        return "full"
    return "locked" if any(word in words for word in _LOCKED) else "gone"
