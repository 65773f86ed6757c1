"""How a command ends: where its user was mistaken with a sentence, and no traceback.

Airflow tries again what ended with another code than `MISTAKE` (dags/wiring.py).
"""

import errno
import sqlite3
import sys
from collections.abc import Callable
from typing import Final, NoReturn

# As argparse ends where it is asked for what cannot be done.
MISTAKE: Final = 2
# Neither the system nor a library says which disk it is, nor what to do.
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
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    sys.stderr.write(f"{error}; {FULL}.\n" if full else f"{error}\n")
    sys.exit(code)
