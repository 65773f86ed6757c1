"""Search the ranker's settings with Optuna on a validation cut, and judge the best on another.

    python -m benchmarks.search search --rows VAL --source NAME --until MOMENT --work SCRATCH
    python -m benchmarks.search judge --rows OTHER --source NAME --until MOMENT --cut earlier

`--rows` is what `benchmarks.search_rows` wrote. A trial draws queries and negatives from one label
share's rows, fits, and ranks the whole pools of the test cut's next songs (what it makes of session
starts, where its scores are one part of two, is not judged). Its value is the mean over NDCG@10,
MRR@20 and HR@20 of the ratio to the default's. At least two fits stand behind it: a setting of one
member is fitted with two seeds.
A trial learns from a part of its queries (`--part`), so that there is time for more trials. Then,
and by `judge` on another cut, the best and the default are fitted in full with further seeds; what
each brings has paired 95 % intervals over listeners. `--until` refuses rows that are asked later.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import optuna
from numpy.typing import NDArray
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from benchmarks.measure import RESULTS, machine, save
from benchmarks.search_bench import SHOWN, Bench, Setting, judged, read_bench, relative
from features.mistakes import run_command
from features.paths import data_dir
from features.times import asked_moment
from training.tables import bounds, markdown_table

FITS: Final = 2
# Seeds of the fits that judge: none of those that chose.
FRESH: Final = (100, 101, 102)
FIRST_AT_RANDOM: Final = 15


def suggest(trial: optuna.Trial, shares: Sequence[float]) -> Setting:
    """Return the setting that Optuna tries next."""
    return Setting(
        share=trial.suggest_categorical("share", sorted(shares)),
        queries=trial.suggest_categorical("queries", [8_000, 16_000, 40_000]),
        negatives=trial.suggest_categorical("negatives", [30, 60, 100]),
        later_gain=trial.suggest_float("later_gain", 0.0, 0.6),
        objective=trial.suggest_categorical("objective", ["lambdarank", "rank_xendcg"]),
        truncation=trial.suggest_int("truncation", 5, 60, log=True),
        trees=trial.suggest_int("trees", 120, 400, step=40),
        members=trial.suggest_int("members", 1, 3),
        learning_rate=trial.suggest_float("learning_rate", 0.02, 0.15, log=True),
        num_leaves=trial.suggest_categorical("num_leaves", [7, 15, 31, 63]),
        min_data_in_leaf=trial.suggest_int("min_data_in_leaf", 20, 600, log=True),
        feature_fraction=trial.suggest_float("feature_fraction", 0.15, 0.9),
        bagging_fraction=trial.suggest_float("bagging_fraction", 0.4, 1.0),
        lambda_l2=trial.suggest_float("lambda_l2", 0.0, 30.0),
    )


def search(
    bench: Bench, trials: int, minutes: float, work: Path, part: float = 1.0
) -> list[dict[str, Any]]:
    """Run trials until either limit and return them, the best first.

    `minutes` are of the processor, so that other users of the machine change nothing. What `work`
    holds of an earlier run counts as done. The first trial is the default.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    default = Setting.of(bench.params)
    base = first_values(bench, default, part, work / "default.npy")

    def objective(trial: optuna.Trial) -> float:
        begun = time.process_time()
        setting = suggest(trial, list(bench.labels))
        seeds = range(FITS if setting.members == 1 else 1)
        values = base if setting == default else bench.values(setting, seeds, part)
        value = relative(values, base)
        for metric, mean in zip(SHOWN, values.mean(axis=1), strict=True):
            trial.set_user_attr(metric, float(mean))
        trial.set_user_attr("cpu_seconds", time.process_time() - begun)
        sys.stdout.write(f"trial {trial.number}: {value:.4f} {asdict(setting)}\n")
        sys.stdout.flush()
        return value

    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(work / "search.log"))),
        study_name="ranker",
        load_if_exists=True,
        direction="maximize",
        sampler=optuna.samplers.TPESampler(
            seed=bench.params.ranker.seed, n_startup_trials=FIRST_AT_RANDOM
        ),
    )
    if not study.trials:
        study.enqueue_trial(asdict(default))
    left = trials - sum(trial.value is not None for trial in study.trials)
    if left > 0:
        study.optimize(objective, n_trials=left, callbacks=[stop_after(minutes)])
    done = [trial for trial in study.trials if trial.value is not None]
    done.sort(key=lambda trial: -float(np.nan_to_num(trial.value or 0)))
    return [
        {"value": t.value, "setting": asdict(Setting(**t.params)), **t.user_attrs} for t in done
    ]


def first_values(bench: Bench, default: Setting, part: float, path: Path) -> NDArray[np.float64]:
    """Return the default's metrics, and keep them for a search that goes on."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, bench.values(default, range(FITS), part))
    return np.asarray(np.load(path))


def stop_after(minutes: float) -> Callable[[optuna.Study, optuna.trial.FrozenTrial], None]:
    """Return what ends a study after so many minutes of the processor."""
    end = time.process_time() + minutes * 60

    def stop(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        if time.process_time() > end:
            study.stop()

    return stop


def best(found: Sequence[dict[str, Any]], default: Setting, count: int) -> dict[str, Setting]:
    """Return the default, then the settings of the best trials, by name."""
    settings = [Setting(**trial["setting"]) for trial in found]
    others = [setting for setting in settings if setting != default][:count]
    return {"default": default} | {f"best {n}": s for n, s in enumerate(others, start=1)}


def table(judgement: Mapping[str, Mapping[str, Any]], shown: Sequence[str] = SHOWN) -> str:
    """Return the judged settings as Markdown: what each brings to the default."""
    rows = []
    for name, row in judgement.items():
        cells = [
            f"{row[m]['value']:.4f}: {row[m]['brings']:+.4f}"
            f"{bounds(row[m]['low'], row[m]['high'], form='+.4f')}"
            for m in shown
        ]
        rows.append([name, *cells])
    return markdown_table(["", *shown], rows) + "\n"


def main() -> None:
    """Search on one cut's rows, or judge on another's what was found; write the results."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("what", choices=("search", "judge"))
    parser.add_argument("--rows", type=Path, required=True, help="what search_rows wrote")
    parser.add_argument("--source", required=True, help="name in the results")
    parser.add_argument("--until", type=asked_moment, required=True)
    parser.add_argument("--work", type=Path, default=data_dir() / "search", help="keeps the trials")
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--minutes", type=float, default=35.0, help="of the processor")
    parser.add_argument("--part", type=float, default=1.0, help="of a trial's label queries")
    parser.add_argument("--best", type=int, default=3, help="how many to judge")
    parser.add_argument("--cut", default="validation", help="the cut's name in the results")
    arguments = parser.parse_args()
    facts, bench = machine(), read_bench(arguments.rows, arguments.until)
    path, default = RESULTS / f"search_{arguments.source}.json", Setting.of(bench.params)
    known: dict[str, Any] = {"protocol": {}, "figures": {"judged": {}}}
    if arguments.what == "search":
        limits = {name: getattr(arguments, name) for name in ("trials", "minutes", "part")}
        found = search(bench, work=arguments.work, **limits)
        known["figures"] |= {"trials": found, "default": asdict(default)}
        known["protocol"] |= limits
    else:
        known = json.loads(path.read_text(encoding="utf-8"))
        default = Setting(**known["figures"]["default"])
    tried = best(known["figures"]["trials"], default, arguments.best)
    tried["one label window"] = replace(default, windows=1)
    judgement = judged(bench, tried, FRESH)
    known["figures"]["judged"][arguments.cut] = judgement
    known["protocol"][arguments.cut] = {
        "last_query": str(bench.pools.ts.max()),
        "next_songs": len(bench.asked),
        "listeners": int(bench.listeners.max()) + 1,
        "label_queries": {
            share: [len(np.unique(rows.query)) for rows in windows]
            for share, windows in bench.labels.items()
        },
        "seeds": FRESH,
    }
    save(path.stem, facts, known["protocol"], known["figures"])
    sys.stdout.write(f"{table(judgement)}wrote {path}\n")


if __name__ == "__main__":
    run_command(main)
