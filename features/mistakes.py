"""How a command ends: where its user was mistaken with a sentence, and no traceback.

Airflow tries again what ended with another code than `MISTAKE` (dags/wiring.py).
"""

import errno
import os
import shutil
import sqlite3
import sys
from collections.abc import Callable
from typing import Final, NoReturn

# As argparse ends where it is asked for what cannot be done.
MISTAKE: Final = 2
# As the system says it, and as SQLite does: neither which disk it is, nor what to do.
_NO_ROOM: Final = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT), "disk is full")
FULL: Final = "make room on the disks of SEGUE_DATA and TMPDIR (`df -h`), then run it again"


class Mistake(ValueError):
    """What was asked for cannot be done with these data or settings; trying again won't help.

    Its message is all that the user reads: what is wrong, where, and what to do.
    """


def run_command(main: Callable[[], None]) -> NoReturn:
    """Run a command and end the process with 0, `MISTAKE`, or 1 where the machine failed.

    An error of the code itself keeps its traceback.
    """
    try:
        main()
    except (Mistake, FileNotFoundError) as error:
        _end(error, MISTAKE)
    except (OSError, sqlite3.Error) as error:
        # Of SQLite, too: a disk that is full, a store that is damaged or not ours to write.
        _end(error, 1)
    sys.exit(0)


def _end(error: Exception, code: int) -> NoReturn:
    sys.stderr.write(f"{told(error)}\n")
    sys.exit(code)


def told(error: Exception) -> str:
    """Return what an error says, of a full disk what to do, too.

    Where a folder was copied, of all its files that failed the first tells enough.
    """
    text = str(error.args[0][0][2]) if isinstance(error, shutil.Error) else str(error)
    of_machine = isinstance(error, OSError | sqlite3.Error)
    full = of_machine and any(words in text for words in _NO_ROOM)
    return f"{text}; {FULL}." if full else text
