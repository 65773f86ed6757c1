"""What more history and more label weeks would bring: retrain on less, evaluate on the same test.

    python -m benchmarks.learning_curves --out /tmp/curves [--histories 0.25 0.5 1] [--labels 0.5 1]

History: only the events of its last share are kept, the phases stay as they are. Labels: the ranker
sees only the last share of each label window. Every point runs the very stages of the pipeline on a
lake of its own under `--out`, with the settings of params.yaml. Reads the lake and the phases of
`SEGUE_DATA`. Meant for small data or a validation cut: a point costs one training.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from benchmarks.measure import RESULTS
from features.columns import Event
from features.params import SIGNALS
from features.paths import PROJECT, data_dir
from training.evaluate import SEGUE
from training.files import write_json
from training.metrics import NEXT
from training.phases import Phases, read_phases
from training.rows import read_rows, select, write_rows

METRICS = ("hr_20", "mrr_20", "ndcg_10")
WINDOWS = ("earlier", "labels")


def later_lake(source: Path, target: Path, since: datetime) -> None:
    """Copy a lake without the events before a moment."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("events"))
    for path in sorted(source.glob("events/*/*.parquet")):
        table = pq.ParquetFile(path).read()
        kept = table.filter(pc.greater_equal(table[Event.TS], pd.Timestamp(since)))
        if kept.num_rows:
            place = target / path.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(kept, place)


def since(phases: Phases, share: float) -> datetime:
    """Return when a history of some share of its length begins.

    Examples
    --------
    A history of 80 days at share 0.25 begins on day 60.
    """
    return phases.history.end - share * (phases.history.end - phases.history.start)


def commands(folder: Path) -> list[list[str]]:
    """Return the stages of one point, as dvc.yaml has them, on a data folder of its own."""
    lake, phases = f"{folder}/lake", f"{folder}/phases.json"
    at = ["--lake", lake, "--phases", phases]
    found = [["features.snapshots", *at, "--out", f"{folder}/features"]]
    for cut in (*WINDOWS, "test"):
        factors, generators = f"{folder}/factors/{cut}", f"{folder}/generators/{cut}"
        for signal in SIGNALS:
            names = ["--signal", signal, "--cut", cut]
            found.append(["training.factors", *names, *at, "--out", factors])
        fit = ["--cut", cut, *at, "--factors", factors, "--out", generators]
        found.append(["training.generators", *fit])
        rows = ["--generators", generators, "--out", f"{folder}/dataset/{cut}.parquet"]
        found.append(["training.dataset", "--cut", cut, *at, *rows, "--workers", "1"])
    return found


def endings(folder: Path, labels: Sequence[Path]) -> list[list[str]]:
    """Return the stages from the ranker to the report."""
    parts = ["--generators", f"{folder}/generators/test", "--ranker", f"{folder}/ranker"]
    users = ["--users", f"{folder}/lake/users.parquet", "--phases", f"{folder}/phases.json"]
    at = ["--lake", f"{folder}/lake", "--phases", f"{folder}/phases.json"]
    rows = ["--rows", f"{folder}/dataset/test.parquet", "--bundle", f"{folder}/bundle"]
    return [
        ["training.ranker", "--rows", *map(str, labels), "--out", f"{folder}/ranker"],
        ["training.package", "--cut", "test", *parts, *users, "--out", f"{folder}/bundle"],
        ["training.report", *at, *rows, "--out", f"{folder}/report"],
    ]


def run(command: Sequence[str], folder: Path) -> None:
    """Run one stage on a data folder; its output is shown only if it fails."""
    env = dict(os.environ) | {"SEGUE_DATA": str(folder), "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(
        [sys.executable, "-m", *command], env=env, cwd=PROJECT, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")


def last_labels(path: Path, share: float, out: Path) -> Path:
    """Write the ranker rows of the last share of a label window's time, and return where."""
    rows, names = read_rows(path)
    first, last = rows.ts.min(), rows.ts.max()
    kept = select(rows, rows.ts >= last - (last - first) * share)
    write_rows(kept, names, out)
    return out


def figures(folder: Path) -> dict[str, float]:
    """Return Segue's next-song figures of a point."""
    rows = pd.read_csv(folder / "report" / "methods.csv")
    mine = rows[(rows["method"] == SEGUE) & (rows["task"] == NEXT)].set_index("metric")["value"]
    return {name: float(mine[name]) for name in METRICS}


def main() -> None:
    """Retrain with less history, then with fewer label weeks, and write the curves."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--out", type=Path, required=True, help="a folder for the points' data")
    parser.add_argument("--histories", type=float, nargs="*", default=[0.25, 0.5, 1.0])
    parser.add_argument("--labels", type=float, nargs="*", default=[0.25, 0.5])
    parser.add_argument("--results", type=Path, default=RESULTS / "learning_curves.json")
    arguments = parser.parse_args()
    source = data_dir()
    phases = read_phases(source / "phases.json")
    points = []
    for share in tqdm(arguments.histories, desc="histories", unit="training"):
        folder = (arguments.out / f"history-{share}").resolve()
        later_lake(source / "lake", folder / "lake", since(phases, share))
        shutil.copy(source / "phases.json", folder / "phases.json")
        labels = [folder / "dataset" / f"{window}.parquet" for window in WINDOWS]
        for command in [*commands(folder), *endings(folder, labels)]:
            run(command, folder)
        points.append({"history": share, "labels": 1.0, **figures(folder)})
    whole = (arguments.out / f"history-{max(arguments.histories)}").resolve()
    for share in tqdm(arguments.labels, desc="label weeks", unit="training"):
        rows = whole / "dataset"
        parts = [
            last_labels(rows / f"{window}.parquet", share, rows / f"{window}-{share}.parquet")
            for window in WINDOWS
        ]
        for command in endings(whole, parts):
            run(command, whole)
        points.append({"history": max(arguments.histories), "labels": share, **figures(whole)})
    write_json(arguments.results, {"phases_end": phases.as_of.isoformat(), "points": points})
    sys.stdout.write(f"{pd.DataFrame(points).to_string(index=False)}\nwrote {arguments.results}\n")


if __name__ == "__main__":
    main()
