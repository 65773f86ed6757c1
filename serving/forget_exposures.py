"""Delete the exposures of before a moment: training reads the latest, and a day can fill a disk.

python -m serving.forget_exposures --before 2026-11-01
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from features.mistakes import Mistake, run_command, told
from features.paths import exposures_folder
from features.times import asked_moment
from serving.exposure_log import ExposureLog
from serving.forget import counted


def main(arguments: Sequence[str] | None = None) -> None:
    """Delete the exposures of before a moment, and give their room back."""
    name = "python -m serving.forget_exposures"
    parser = argparse.ArgumentParser(prog=name, description=main.__doc__)
    parser.add_argument("--folder", type=Path, help="default: where the service writes them")
    parser.add_argument("--before", type=asked_moment, required=True, help="moment (ISO 8601, UTC)")
    options = parser.parse_args(arguments)
    folder = options.folder or exposures_folder()
    if folder is None:
        raise Mistake("SEGUE_EXPOSURES is `off`; name the exposure log by --folder.")
    try:
        total = counted(ExposureLog(folder).forget(options.before), "exposure")
    except OSError as error:
        sys.exit(told(error))
    sys.stdout.write(f"deleted {total:,} exposures of before {options.before.isoformat()}\n")


if __name__ == "__main__":
    run_command(main)
