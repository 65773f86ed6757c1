"""Erase one listener: the logged events, the exposures, and the row of the online store.

    python -m serving.forget --user u1

What was copied or learnt from them stays until the next training: docs/events.md says what that is.
"""

import argparse
import sqlite3
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing

from tqdm import tqdm

from features.mistakes import run_command, told
from features.paths import events_url, exposures_folder
from features.store import forget_online_user, reach_online
from serving.database import refuse_missing
from serving.event_log import EventLog
from serving.exposure_log import ExposureLog
from serving.refusals import Unavailable

REST = "What still knows the listener, and what to do before the next training: docs/events.md."


def main(arguments: Sequence[str] | None = None) -> None:
    """Erase one listener from the logs and the online store that the environment names."""
    parser = argparse.ArgumentParser(prog="python -m serving.forget", description=main.__doc__)
    parser.add_argument("--user", required=True, help="a user_id")
    user = parser.parse_args(arguments).user
    try:
        forget(user)
    except (Unavailable, OSError, sqlite3.Error) as error:
        sys.exit(f"{told(error)}\n{user} is not erased, or not everywhere; run it again.")
    sys.stdout.write(f"{REST}\n")


def forget(user_id: str) -> None:
    """Erase a listener, and print what went. Nothing goes before all the stores are reached.

    Raises
    ------
    Mistake
        If a log's file is not there.
    Unavailable
        If a log's database does not give or take rows.
    OSError
        If the online store is not there, or does not give or take rows.
    """
    events, folder = events_url(), exposures_folder()
    refuse_missing(events)
    shown = None if folder is None else ExposureLog(folder)
    with closing(EventLog.open(events)) as log:
        reach_online()
        _tell("events", log.forget(user_id))
        if shown is None:
            sys.stdout.write("SEGUE_EXPOSURES is `off`: no exposures were looked for\n")
        else:
            _tell("exposures", shown.forget_user(user_id))
        gone = "erased the" if forget_online_user(user_id) else "found no"
        sys.stdout.write(f"{gone} row in the online store\n")


def _tell(what: str, gone: Iterable[int]) -> None:
    sys.stdout.write(f"erased {counted(gone, f' {what}'):,} {what}\n")


def counted(parts: Iterable[int], unit: str) -> int:
    """Return the sum of what is done part by part, with a progress bar meanwhile."""
    total = 0
    # The bar, where it is switched off, counts nothing.
    with tqdm(unit=unit) as bar:
        for count in parts:
            bar.update(count)
            total += count
    return total


if __name__ == "__main__":
    run_command(main)
