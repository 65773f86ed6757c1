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

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from benchmarks.measure import RESULTS
from features.columns import Event, User
from features.mistakes import run_command
from features.params import SIGNALS
from features.paths import PROJECT, data_dir
from training.files import write_json
from training.methods import SEGUE
from training.metrics import NEXT, cluster_bootstrap, interval
from training.phases import Phases, read_phases
from training.rows import read_rows, select, write_rows

METRICS = ("hr_20", "mrr_20", "ndcg_10")
WINDOWS = ("earlier", "labels")
DRAWS, SEED = 1000, 7


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


def answers(folder: Path) -> pd.DataFrame:
    """Return Segue's metrics of a point's next songs, and `user_id`, by query id."""
    rows = pd.read_parquet(folder / "report" / "answers.parquet")
    mine = rows[(rows["method"] == SEGUE) & (rows["task"] == NEXT)].set_index("query_id")
    return mine[[*METRICS, User.ID]]


def compared(point: pd.DataFrame, whole: pd.DataFrame) -> dict[str, float]:
    """Return a point's means, and what each lacks to the whole training's on the same queries.

    `<metric>_lacks` has the paired 95 % interval `_low` to `_high`, resampling listeners; a single
    listener gives none (NaN).
    """
    point = point.loc[whole.index]
    gaps = (whole[list(METRICS)] - point[list(METRICS)]).to_numpy(dtype=np.float64)
    draws = cluster_bootstrap(gaps, pd.factorize(whole[User.ID])[0], DRAWS, SEED)
    found: dict[str, float] = {}
    for column, name in enumerate(METRICS):
        low, high = interval(draws[:, column])
        found |= {name: float(point[name].mean()), f"{name}_lacks": float(gaps[:, column].mean())}
        found |= {f"{name}_low": low, f"{name}_high": high}
    return found


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
    found: dict[tuple[float, float], pd.DataFrame] = {}
    for share in tqdm(arguments.histories, desc="histories", unit="training"):
        folder = (arguments.out / f"history-{share}").resolve()
        later_lake(source / "lake", folder / "lake", since(phases, share))
        shutil.copy(source / "phases.json", folder / "phases.json")
        labels = [folder / "dataset" / f"{window}.parquet" for window in WINDOWS]
        for command in [*commands(folder), *endings(folder, labels)]:
            run(command, folder)
        found[share, 1.0] = answers(folder)
    longest = max(arguments.histories)
    whole = (arguments.out / f"history-{longest}").resolve()
    for share in tqdm(arguments.labels, desc="label weeks", unit="training"):
        rows = whole / "dataset"
        parts = [
            last_labels(rows / f"{window}.parquet", share, rows / f"{window}-{share}.parquet")
            for window in WINDOWS
        ]
        for command in endings(whole, parts):
            run(command, whole)
        found[longest, share] = answers(whole)
    points = [
        {"history": history, "labels": labels, **compared(point, found[longest, 1.0])}
        for (history, labels), point in found.items()
    ]
    write_json(arguments.results, {"phases_end": phases.as_of.isoformat(), "points": points})
    sys.stdout.write(f"{pd.DataFrame(points).to_string(index=False)}\nwrote {arguments.results}\n")


if __name__ == "__main__":
    run_command(main)
