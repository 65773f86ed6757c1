"""Rows for a search of the ranker's settings: a set for each label share, and the test cut's pools.

    python -m benchmarks.search_rows --lake LAKE --as-of MOMENT --shares 0.1 0.2 --out FOLDER

Longer label windows begin earlier, so that the generators their rows come from see less: each share
is a fit of its own. The test phase and what answers there are the same for all. Rows hold as many
queries and negatives as a trial may ask for (`benchmarks.search` draws from them).
"""

import argparse
import sys
from datetime import datetime
from pathlib import Path
from typing import Final

from benchmarks.ablation_rows import WHOLE_POOL
from benchmarks.learning_curves import run
from benchmarks.measure import made_whole
from features.lake import read_summary
from features.mistakes import run_command
from features.params import SIGNALS, load_params
from features.times import asked_moment
from serving.bundle import load_retrieval
from training.dataset import build_rows, phase_queries
from training.phases import CUTS, Cut, Phases, read_phases, refuse_leaky, split, write_phases
from training.queries import Sample
from training.rows import write_rows

MOST_LABEL_QUERIES: Final = 40_000
MOST_TEST_QUERIES: Final = 4_000
MOST_NEGATIVES: Final = 100


def stages(lake: Path, folder: Path, cut: Cut) -> list[list[str]]:
    """Return the stages that fit a cut's generators into a data folder."""
    phases, factors = f"{folder}/phases.json", f"{folder}/factors/{cut}"
    at = ["--lake", str(lake), "--phases", phases]
    found = [
        ["training.factors", "--signal", signal, "--cut", cut, *at, "--out", factors]
        for signal in SIGNALS
    ]
    out = ["--factors", factors, "--out", f"{folder}/generators/{cut}"]
    return [*found, ["training.generators", "--cut", cut, *at, *out]]


def phases_of(lake: Path, as_of: datetime, share: float) -> Phases:
    """Return the phases with one label share."""
    shares = load_params().phases.model_copy(update={"labels_share": share})
    return split(datetime.fromisoformat(read_summary(lake)["first_ts"]), as_of, shares)


def begin(lake: Path, phases: Phases, folder: Path) -> None:
    """Write phases, and the features as of their moments, unless that was done."""
    if folder.exists():
        return
    with made_whole(folder) as fresh:
        write_phases(phases, fresh / "phases.json")
        at = ["--lake", str(lake), "--phases", f"{fresh}/phases.json"]
        run(["features.snapshots", *at, "--out", f"{fresh}/features"], fresh)


def rows(lake: Path, folder: Path, cut: Cut, negatives: int) -> Path:
    """Fit a cut's generators and write its rows, unless they are there; return where."""
    out = folder / f"{cut}.parquet"
    if not out.exists():
        for stage in stages(lake, folder, cut):
            run(stage, folder)
        # In a process of its own: the feature store is where SEGUE_DATA says.
        build = ["--lake", str(lake), "--cut", cut, "--negatives", str(negatives)]
        run(["benchmarks.search_rows", *build, "--out", str(folder)], folder)
    return out


def build(lake: Path, folder: Path, cut: Cut, negatives: int) -> None:
    """Write a cut's rows; labels with the share of starts that the ranker is fitted on."""
    params = load_params()
    history_songs = params.features.history_songs
    ranker = params.ranker.model_copy(update={"negatives": negatives})
    phases, generators = read_phases(folder / "phases.json"), folder / "generators" / cut
    refuse_leaky(generators, phases, cut)
    sample = (
        Sample(MOST_TEST_QUERIES, ranker.seed)
        if cut == "test"
        else Sample(MOST_LABEL_QUERIES, ranker.seed, ranker.starts_share)
    )
    queries = phase_queries(lake, phases, cut, history_songs, sample)
    made = build_rows(generators, queries, ranker, workers=1)
    out = folder / f"{cut}.parquet"
    # A build that is killed leaves no rows that look whole.
    write_rows(made, load_retrieval(generators).feature_names, out.with_suffix(".part"))
    out.with_suffix(".part").rename(out)


def main() -> None:
    """Write the rows of each label share and of the test cut, or those of one cut."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--lake", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for data and rows")
    parser.add_argument("--as-of", type=asked_moment, help="the end of all phases (ISO 8601)")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1])
    parser.add_argument("--cut", choices=CUTS[:-1], help="only this cut's rows")
    parser.add_argument("--negatives", type=int, default=MOST_NEGATIVES)
    arguments = parser.parse_args()
    lake, out = arguments.lake.resolve(), arguments.out.resolve()
    if arguments.cut:
        build(lake, out, arguments.cut, arguments.negatives)
        return
    as_of, shares = arguments.as_of, arguments.shares
    wanted = {f"share-{share}": phases_of(lake, as_of, share) for share in shares}
    first = next(iter(wanted))
    for name, phases in wanted.items():
        begin(lake, phases, out / name)
        found = [rows(lake, out / name, cut, arguments.negatives) for cut in ("earlier", "labels")]
        if name == first:
            found.append(rows(lake, out / name, "test", WHOLE_POOL))
        sys.stdout.write("".join(f"wrote {path}\n" for path in found))


if __name__ == "__main__":
    run_command(main)
