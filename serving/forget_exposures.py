"""Delete the exposures of before a moment: training reads the latest, and a day can fill a disk.

python -m serving.forget_exposures --before 2026-11-01
"""

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing

from features.mistakes import Mistake, run_command
from features.paths import exposures_url
from features.times import asked_moment
from serving.database import refuse_missing
from serving.exposures import ExposureLog
from serving.forget import counted
from serving.refusals import Unavailable


def main(arguments: Sequence[str] | None = None) -> None:
    """Delete the exposures of before a moment; the room is used for new ones."""
    name = "python -m serving.forget_exposures"
    parser = argparse.ArgumentParser(prog=name, description=main.__doc__)
    parser.add_argument("--url", help="the database (default: where the service writes them)")
    parser.add_argument("--before", type=asked_moment, required=True, help="moment (ISO 8601, UTC)")
    options = parser.parse_args(arguments)
    url = options.url or exposures_url()
    if url is None:
        raise Mistake("SEGUE_EXPOSURES_URL is `off`; name the exposure log by --url.")
    refuse_missing(url, "exposure log", "SEGUE_EXPOSURES_URL")
    try:
        with closing(ExposureLog.open(url)) as log:
            total = counted(log.forget(options.before), "exposure")
    except Unavailable as error:
        sys.exit(str(error))
    sys.stdout.write(f"deleted {total:,} exposures of before {options.before.isoformat()}\n")


if __name__ == "__main__":
    run_command(main)
