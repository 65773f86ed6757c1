"""Write simulated listening data, and the truth about it.

python -m simulation --size default --seed 7 --out DIR --truth DIR
"""

import argparse
import shutil
import sys
from pathlib import Path

import pyarrow as pa
from tqdm import tqdm

from features.mistakes import run_command
from simulation.policy import variants
from simulation.sizes import SIZES, Size
from simulation.stream import days
from simulation.tables import event_table, write
from simulation.truth import Truth
from simulation.world import World, build_world


def simulate(size: Size, seed: int, out: Path, truth: Path) -> int:
    """Write a world's data to `out` and its probability model to `truth`.

    Earlier parts in `out/events` are replaced. Events are in order of time within and across
    parts.

    Returns
    -------
    int
        How many events were written.
    """
    world = build_world(size, seed)
    known = world.model, world.listeners.ids, world.songs.ids, world.listeners.utc_offset
    Truth(*known).save(truth)
    write(world.users_table, out / "users.parquet")
    write(world.songs_table, out / "songs.parquet")
    shutil.rmtree(out / "events", ignore_errors=True)
    return _write_events(world, seed, out / "events")


def _write_events(world: World, seed: int, folder: Path) -> int:
    variant = variants(seed, world.size.listeners)
    waiting: list[pa.Table] = []
    rows = total = part = 0
    bar = tqdm(days(world), total=world.size.days, unit="day")
    for number, columns in enumerate(bar, start=1):
        waiting.append(event_table(columns, world.listeners, world.songs, variant))
        rows += waiting[-1].num_rows
        bar.set_postfix(events=total + rows)
        if rows >= world.size.part_rows or number == world.size.days:
            write(pa.concat_tables(waiting), folder / f"part-{part:04d}.parquet")
            waiting, rows, total, part = [], 0, total + rows, part + 1
    return total


def whole(text: str) -> int:
    """Return a seed; the graph hands it over as it stands in params.yaml.

    Raises
    ------
    argparse.ArgumentTypeError
        If it is none.
    """
    if not (text.isdecimal() and int(text) < 2**31):
        raise argparse.ArgumentTypeError(f"a seed is a whole number below 2^31, not {text!r}")
    return int(text)


def main() -> None:
    """Parse, simulate, say what was written."""
    parser = argparse.ArgumentParser(prog="python -m simulation", description=__doc__)
    parser.add_argument("--size", choices=sorted(SIZES), default="default")
    parser.add_argument("--seed", type=whole, default=7)
    parser.add_argument("--out", type=Path, required=True, help="folder for events, users, songs")
    parser.add_argument("--truth", type=Path, required=True, help="folder for the known truth")
    args = parser.parse_args()
    total = simulate(SIZES[args.size], args.seed, args.out, args.truth)
    sys.stdout.write(
        f"Wrote {total:,} events to {args.out}, their probabilities to {args.truth}.\n"
    )


if __name__ == "__main__":
    run_command(main)
