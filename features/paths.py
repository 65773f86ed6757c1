"""Where things live: the one place that reads the process environment."""

import math
import os
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from features.mistakes import Mistake

PROJECT = Path(__file__).resolve().parent.parent
ONLINE_FORM = "SEGUE_ONLINE_URL must be empty or redis://host:port/database."


def data_dir() -> Path:
    """Return the folder of everything the pipeline makes (`SEGUE_DATA`, default `data`)."""
    return _in_project(os.environ.get("SEGUE_DATA") or "data")


@lru_cache(maxsize=16)
def _in_project(path: str) -> Path:
    return PROJECT / path


def served_bundle() -> Path:
    """Return the deployed bundle (`SEGUE_BUNDLE`, default `data/served/current`)."""
    return PROJECT / (os.environ.get("SEGUE_BUNDLE") or data_dir() / "served" / "current")


def online_url() -> str:
    """Return where online features are (`SEGUE_ONLINE_URL`: `redis://...`; by default a file).

    Raises
    ------
    Mistake
        If it is neither empty nor a Redis address that Feast can use.
    """
    return _checked_online(os.environ.get("SEGUE_ONLINE_URL", ""))


@lru_cache(maxsize=4)
def _checked_online(url: str) -> str:
    # Each answer asks: what is checked once is remembered.
    if url and not url.startswith(("redis://", "rediss://")):
        raise Mistake(ONLINE_FORM)
    parts = urlsplit(url)
    try:
        _ = parts.port
    except ValueError as error:
        raise Mistake(f"{ONLINE_FORM} {error}.") from None
    if not (parts.path.strip("/") or "0").isdecimal():
        raise Mistake(f"{ONLINE_FORM} The database is a number.")
    if ":" in (parts.hostname or ""):
        raise Mistake(f"{ONLINE_FORM} Feast cannot tell host and port of IPv6 apart: give a name.")
    if "," in unquote(f"{parts.username}{parts.password}"):
        raise Mistake(
            f"{ONLINE_FORM} Feast parts its settings at commas: none may be in a password."
        )
    return url


def events_url() -> str:
    """Return the event log's database (`SEGUE_EVENTS_URL`, default SQLite below the data folder).

    `sqlite:///path/events.db` or `postgresql://user@host/database`.
    """
    default = f"sqlite:///{data_dir() / 'events' / 'events.db'}"
    return os.environ.get("SEGUE_EVENTS_URL", "").strip() or default


def deadline_seconds() -> float:
    """Return how long an answer may take (`SEGUE_DEADLINE_MS`, default 250, at least 1)."""
    return _number("SEGUE_DEADLINE_MS", 250, at_least=1) / 1000


def exposures_folder() -> Path | None:
    """Return where exposures go (`SEGUE_EXPOSURES`, default below the data folder; `off` is None).

    Raises
    ------
    Mistake
        If it names no folder.
    """
    named = os.environ.get("SEGUE_EXPOSURES", "").strip()
    if named == "off":
        return None
    # A word that was mistyped for `off`, or a database's address, would become a folder's name.
    if named and ("/" not in named or "://" in named):
        raise Mistake(f"SEGUE_EXPOSURES must be a folder's path or `off`, not {named!r}.")
    return PROJECT / (named or data_dir() / "events" / "exposures")


def api_keys() -> str:
    """Return the API keys' names, rights and digests (`SEGUE_API_KEYS`, see `serving.access`)."""
    return os.environ.get("SEGUE_API_KEYS", "")


def request_rate() -> tuple[float, float]:
    """Return how many requests a second a client may make in each worker, and at once.

    `SEGUE_RATE` and `SEGUE_BURST`; a rate of 0, the default, bounds nothing; the burst is twice
    the rate if it is not given, and at least 1.
    """
    rate = _number("SEGUE_RATE", 0, at_least=0)
    return rate, max(_number("SEGUE_BURST", 2 * rate, at_least=0), 1.0)


def worker_count() -> int:
    """Return how many processes answer (`SEGUE_WORKERS`, default 1)."""
    return int(_number("SEGUE_WORKERS", 1, at_least=1))


def _number(name: str, default: float, at_least: float) -> float:
    """Return a number of the environment.

    Raises
    ------
    Mistake
        If it is none, or too small; the message names the variable.
    """
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not at_least <= value < math.inf:
        raise Mistake(f"{name} must be a number of at least {at_least:g}, not {text!r}.")
    return value
