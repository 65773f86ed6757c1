"""Write the learning curve over the number of label queries, from the ranker rows that exist."""

import argparse
import sys
from pathlib import Path

from features.mistakes import run_command
from features.params import load_params
from features.paths import data_dir
from training.curves import by_label_queries
from training.rows import concatenate, read_rows


def main() -> None:
    """Fit the ranker on parts of the label queries and measure each on the test rows."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--labels", type=Path, nargs="+", required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=data_dir() / "report/label_queries.csv")
    arguments = parser.parse_args()
    labels, names = concatenate([read_rows(path) for path in arguments.labels])
    test, _ = read_rows(arguments.test)
    curve = by_label_queries(labels, test, names, load_params().ranker)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    curve.to_csv(arguments.out, index=False)
    sys.stdout.write(f"{curve.to_string(index=False)}\nwrote {arguments.out}\n")


if __name__ == "__main__":
    run_command(main)
