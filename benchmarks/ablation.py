"""What each generator, feature group, way of time and kind of factors brings, and what it costs.

Fits the ranker on label rows with and without each and ranks the whole pool of test-cut queries:
next songs, of which those that were liked count once more by themselves, and session starts.
Point `--data` at folders whose phases end before the main test phase: nothing is chosen here on
the weeks that the report is about. Rows are built once, with everything; `ablation_rows.view`
takes out columns and the songs that only the missing ones proposed.
"""

import argparse
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.ablation_rows import (
    SIGNAL,
    VARIANTS,
    WHOLE_POOL,
    build,
    coming_recall,
    feature_groups,
    fit_wide,
    group_work,
    load_wide,
    ranks_in_pools,
    view,
)
from benchmarks.measure import (
    machine,
    made_whole,
    refuse_main_weeks,
    refuse_other_settings,
    save,
    timed,
)
from features.mistakes import Mistake, run_command
from features.params import Params, Ranker, load_params
from features.paths import data_dir
from features.state import State, resolve
from features.times import asked_moment
from serving.ranker import SESSION_LENGTH
from serving.retrieval import BLEND, Retrieval
from training.dataset import phase_queries
from training.metrics import METRICS, TOP, cluster_bootstrap, hit_rate, interval
from training.phases import Cut, Phases, read_phases
from training.queries import Labelled, Sample
from training.ranker import fit_ranker
from training.rows import Rows, read_rows, write_rows
from training.sessions import LIKED
from training.starts import fit_starts
from training.tables import bounds, markdown_table

OF_NEXT: Final = ("ndcg_10", "hr_20", "mrr_20")
# HR@20 of next songs that were liked, and the share of the coming songs that a start's 20 hold.
OF_LIKED, OF_STARTS = "liked_hr_20", "start_recall_20"
SHOWN: Final = (*OF_NEXT, OF_LIKED, OF_STARTS)
TIMED: Final = 200
REFITS: Final = 2


@dataclass(frozen=True)
class Trial:
    """Generators and features of one fit, and what it is set against.

    `sign` is 1 where the trial adds the thing to the base, -1 where it takes it away. `at_starts`
    says who orders session starts: the ranker of next songs, the forest of starts, or their sum.
    """

    name: str
    kind: str
    generators: frozenset[str]
    without: frozenset[str]
    sign: int
    seed: int | None = None
    at_starts: Literal["ranker", "forest", "sum"] = "sum"


def trials(retrieval: Retrieval, params: Params, joint: Sequence[str] = ()) -> list[Trial]:
    """Return the base first, then one trial a thing, and one without all of `joint`.

    Raises
    ------
    Mistake
        If `joint` names what is neither a generator that is on nor a group of features.
    """
    off = {
        name
        for name in retrieval.names
        if not getattr(getattr(params.generators, name, None), "enabled", True)
    }
    variants = {f"{name}_{part}" for name in VARIANTS for part in (SIGNAL, BLEND)}
    # The order of starts knows them by their length; without it, it would be gone as well.
    groups = {
        name: frozenset(columns) - {SESSION_LENGTH}
        for name, columns in feature_groups(retrieval).items()
    }
    time_features = groups.pop("dayparts")
    base = Trial("base", "base", frozenset(retrieval.names) - variants - off, time_features, 1)
    return [
        base,
        *time_trials(base),
        *factor_trials(base),
        *generator_trials(base, off - {"tensor"}),
        *(
            replace(base, name=name, kind="features", without=base.without | columns, sign=-1)
            for name, columns in groups.items()
        ),
        *([joint_trial(base, joint, groups)] if joint else ()),
        # What the sum brings beside one of its parts alone.
        replace(base, name="their forest", kind="starts", sign=-1, at_starts="ranker"),
        replace(base, name="the ranker", kind="starts", sign=-1, at_starts="forest"),
        *(
            replace(base, name=f"another seed ({seed})", kind="refit", seed=seed)
            for seed in range(1, REFITS + 1)
        ),
    ]


def time_trials(base: Trial) -> Iterator[Trial]:
    """Yield the base with the tensor, and with the daypart features that it goes without."""
    yield replace(base, name="tensor", kind="time", generators=base.generators | {"tensor"})
    yield replace(base, name="dayparts, all four", kind="time", without=frozenset())
    for name in sorted(base.without):
        yield replace(base, name=name, kind="time", without=base.without - {name})


def factor_trials(base: Trial) -> Iterator[Trial]:
    """Yield the base with each variant of the factors in their place."""
    own = base.generators & {SIGNAL, BLEND}
    for name in VARIANTS:
        swapped = base.generators - own | {f"{name}_{part}" for part in own}
        if name == "skip_zero":
            swapped -= {"skip"}
        yield replace(base, name=name, kind="factors", generators=swapped)


def generator_trials(base: Trial, off: Collection[str]) -> Iterator[Trial]:
    """Yield the base without each generator that is on, and with each that is off."""
    for name in sorted(base.generators):
        left = base.generators - {name}
        yield replace(base, name=name, kind="generator, on", generators=left, sign=-1)
    for name in sorted(off):
        yield replace(base, name=name, kind="generator, off", generators=base.generators | {name})


def joint_trial(base: Trial, joint: Sequence[str], groups: Mapping[str, frozenset[str]]) -> Trial:
    """Return the base without several generators and groups of features at once.

    Raises
    ------
    Mistake
        If one is neither a generator that is on nor a group of features.
    """
    if lost := sorted(set(joint) - base.generators - groups.keys()):
        known = sorted(base.generators | groups.keys())
        raise Mistake(f"--joint names {lost}; there are {known}.")
    return replace(
        base,
        name=" + ".join(joint),
        kind="joint",
        generators=base.generators - set(joint),
        without=base.without.union(*(groups.get(name, ()) for name in joint)),
        sign=-1,
    )


@dataclass(frozen=True)
class Asked:
    """Queries with the rows of their pools; `numbers` in the rows are places in `queries`."""

    queries: Sequence[Labelled]
    rows: Rows


def values_of(
    trial: Trial, labels: Rows, test: tuple[Asked, Asked], names: tuple[str, ...], params: Ranker
) -> NDArray[np.float64]:
    """Fit one trial on label rows and judge it on next songs and on session starts.

    Returns
    -------
    NDArray
        Shape (next songs + starts, SHOWN); NaN where a metric does not speak of a query.
    """
    if trial.seed is not None:
        params = params.model_copy(update={"seed": trial.seed})
    follow, starts = test
    seen, kept = view(labels, names, trial.generators, trial.without)
    asked, _ = view(follow.rows, names, trial.generators, trial.without)
    order = fit_ranker(seen, kept, params)
    ranks = ranks_in_pools(asked, order.predict(asked.features), len(follow.queries))
    values = np.full((len(follow.queries) + len(starts.queries), len(SHOWN)), np.nan)
    next_songs, begun = np.split(values, [len(follow.queries)])
    next_songs[:, : len(OF_NEXT)] = np.stack([METRICS[m](ranks) for m in OF_NEXT], axis=1)
    liked = np.array([labelled.outcome == LIKED for labelled in follow.queries], dtype=np.bool_)
    next_songs[liked, SHOWN.index(OF_LIKED)] = hit_rate(ranks, TOP)[liked]
    asked, _ = view(starts.rows, names, trial.generators, trial.without)
    forest = None if trial.at_starts == "ranker" else fit_starts(seen, kept, params)
    scores = np.zeros(len(asked.query))
    # Too few starts have no forest, as in serving.
    if forest is None or trial.at_starts == "sum":
        scores += order.predict(asked.features)
    if forest is not None:
        scores += forest.predict(asked.features, raw_score=True)
    begun[:, SHOWN.index(OF_STARTS)] = coming_recall(asked, scores, starts.queries)
    return values


def summary(
    found: dict[str, NDArray[np.float64]],
    tried: Sequence[Trial],
    listeners: NDArray[np.int64],
    draws: int,
    seed: int,
) -> pd.DataFrame:
    """Return one row a trial: what the thing brings in each metric, with a paired 95 % interval.

    `found` holds what `values_of` returns, `listeners` who asked each of its rows. Set against the
    base, which is the mean over its fits with several seeds: one fit's luck would else shift every
    row. Each of those fits is set against the others, so that it shows how far luck alone goes; the
    intervals are over listeners and know nothing of it.
    """
    each = np.stack([found[t.name + t.kind].T for t in tried])  # (trials, metrics, queries)
    same = np.array([trial.kind in ("base", "refit") for trial in tried])
    fits = each[same]
    apart = (same & (len(fits) > 1))[:, None, None]
    base = (fits.sum(axis=0) - np.where(apart, each, 0)) / (len(fits) - apart)
    signs = np.array([trial.sign for trial in tried])[:, None, None]
    brought = signs * (each - base)
    drawn = cluster_bootstrap(brought.reshape(-1, each.shape[2]).T, listeners, draws, seed)
    table = []
    for number, trial in enumerate(tried):
        row: dict[str, Any] = {"name": trial.name, "kind": trial.kind}
        for m, metric in enumerate(SHOWN):
            low, high = interval(drawn[:, number * len(SHOWN) + m])
            row[metric] = mean_of_known(brought[number, m])
            row |= {f"{metric}_low": low, f"{metric}_high": high}
            row[f"{metric}_value"] = mean_of_known(each[number, m])
        table.append(row)
    return pd.DataFrame(table)


def mean_of_known(values: NDArray[np.float64]) -> float:
    """Return the mean of what is not NaN, NaN where nothing is known."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else np.nan


def costs(retrieval: Retrieval, queries: Sequence[Labelled]) -> dict[str, float]:
    """Return the median microseconds a request of each generator and of each feature group.

    A generator's are its scores, its proposals, and its scores of the whole pool.
    """
    spent: dict[str, list[float]] = {}
    for labelled in queries[:TIMED]:
        state = resolve(labelled.query, retrieval.songs)
        for name, work in request_work(retrieval, state).items():
            spent.setdefault(name, []).append(timed(work) * 1e6)
    return {name: float(np.median(values)) for name, values in spent.items()}


def request_work(retrieval: Retrieval, state: State) -> dict[str, Callable[[], object]]:
    """Return what each generator and feature group does for one request."""
    songs, scores = retrieval.pool(state).songs, retrieval.scores(state)

    def ask(name: str) -> None:
        # What one part of a request found is there for another, but not for the next request.
        state.worked_out.clear()
        generator = retrieval.generators.get(name)
        own = generator.scores(state) if generator else retrieval.blend.combine(scores)
        own.top(retrieval.quota[name])
        own.of(songs)

    asked = {name: partial(ask, name) for name in retrieval.names}
    return {**asked, **group_work(retrieval, state, songs)}


def markdown(table: pd.DataFrame, cost: dict[str, float], context: str) -> str:
    """Return the table as Markdown, one section a kind."""
    base = table[table["kind"].isin(["base", "refit"])]
    # Where a source knows no likes, nothing is said of them.
    shown = [m for m in SHOWN if base[f"{m}_value"].notna().any()]
    means = ", ".join(f"{m} {base[f'{m}_value'].mean():.4f}" for m in shown)
    lines = [context, "", f"Base, the mean of {len(base)} fits: {means}", ""]
    for kind, part in table.groupby("kind", sort=False):
        rows = []
        for row in part.sort_values("ndcg_10", ascending=False).to_dict("records"):
            cells = [
                f"{row[m]:+.4f}{bounds(row[f'{m}_low'], row[f'{m}_high'], form='+.4f')}"
                for m in shown
            ]
            spent = cost.get(str(row["name"]))
            rows.append([str(row["name"]), *cells, "" if spent is None else f"{spent:.0f}"])
        head = ["", *shown, "µs a request"]
        lines += [f"### {kind}", "", markdown_table(head, rows), ""]
    return "\n".join(lines)


def prepared(
    arguments: argparse.Namespace, params: Params
) -> tuple[Rows, tuple[Asked, Asked], Retrieval]:
    """Return label rows, next songs and starts of the test cut, built once, and its retrieval."""
    phases = read_phases(arguments.data / "phases.json")
    if arguments.until:
        refuse_main_weeks(phases, arguments.until)
    settings = {
        "labels": arguments.labels,
        "queries": arguments.queries,
        "starts": arguments.starts,
        "negatives": arguments.negatives,
        "params": params.model_dump(mode="json"),
        "as_of": phases.as_of.isoformat(),
    }
    refuse_other_settings(arguments.work, settings)
    how, source = params.ranker, Source(arguments.data, arguments.work, phases, params)
    labelled = Sample(arguments.labels, how.seed, how.starts_share)
    labels = source.asked("labels", labelled, arguments.negatives)
    follow = source.asked("test", Sample(arguments.queries, how.seed), WHOLE_POOL)
    begun = source.asked("test", Sample(arguments.starts, how.seed, 1.0), WHOLE_POOL)
    return labels.rows, (follow, begun), source.retrieval("test")


@dataclass(frozen=True)
class Source:
    """Where queries and their rows come from; what is made of `data` is kept in `work`."""

    data: Path
    work: Path
    phases: Phases
    params: Params

    def retrieval(self, cut: Cut) -> Retrieval:
        """Return everything that retrieves as of a cut, fitted where it is not yet."""
        folder = self.work / cut
        if not folder.exists():
            with made_whole(folder) as fresh:
                fit_wide(self.params, self.phases, cut, self.data, fresh)
        return load_wide(folder, self.params)

    def asked(self, cut: Cut, sample: Sample, negatives: int) -> Asked:
        """Return the queries of a sample with their rows, built where they are not yet.

        Raises
        ------
        Mistake
            If the rows have features of an older version.
        """
        retrieval, starts = self.retrieval(cut), sample.starts_share == 1
        history = self.params.features.history_songs
        queries = phase_queries(self.data / "lake", self.phases, cut, history, sample)
        if starts:
            # All there are, should there be fewer than wanted; the sample is filled with others.
            queries = [labelled for labelled in queries if labelled.is_start]
        path = self.work / f"{cut}_{sample.max_queries}{'_starts' if starts else ''}.parquet"
        if not path.exists():
            made = build(retrieval, queries, negatives, sample.seed, cut)
            write_rows(made, retrieval.feature_names, path)
        rows, names = read_rows(path)
        if names != retrieval.feature_names:
            raise Mistake(f"{path} has features of an older version; name an empty --work.")
        return Asked(queries, rows)


def absent(retrieval: Retrieval, params: Params) -> list[str]:
    """Return the generators that the data gives nothing to fit: nothing can be said of them."""
    sections = type(params.generators).model_fields.keys() - {"dayparts"}
    return sorted({*sections, *params.signals} - set(retrieval.names))


def with_ease(params: Params, songs: int | None) -> Params:
    """Return the parameters with another size of EASE's inverse, which is cubic in it."""
    if songs is None:
        return params
    ease = params.generators.ease.model_copy(update={"max_songs": songs})
    generators = params.generators.model_copy(update={"ease": ease})
    return params.model_copy(update={"generators": generators})


def values_of_all(
    tried: Sequence[Trial],
    labels: Rows,
    test: tuple[Asked, Asked],
    names: tuple[str, ...],
    params: Ranker,
    folder: Path,
) -> dict[str, NDArray[np.float64]]:
    """Return each trial's values, fitted where the folder does not hold them yet."""
    found = {}
    for trial in tqdm(tried, desc="trials", unit="fit"):
        path = folder / f"{trial.kind}, {trial.name}.npy"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            np.save(path, values_of(trial, labels, test, names, params))
        found[trial.name + trial.kind] = np.load(path)
    return found


def run(arguments: argparse.Namespace) -> str:
    """Write results and table of all trials; return the table, and where the results are."""
    facts, params = machine(), with_ease(load_params(), arguments.ease_songs)
    labels, test, retrieval = prepared(arguments, params)
    cost = costs(retrieval, test[0].queries)
    update = {"rounds": arguments.rounds, "learning_rate": arguments.learning_rate}
    ranker = params.ranker.model_copy(update=update)
    wanted = {"base", "refit", "joint", *(arguments.kinds or [])}
    every = trials(retrieval, params, arguments.joint)
    tried = [trial for trial in every if not arguments.kinds or trial.kind in wanted]
    values = arguments.work / f"values, {', '.join(f'{name} {v}' for name, v in update.items())}"
    found = values_of_all(tried, labels, test, retrieval.feature_names, ranker, values)
    users = [labelled.user_id for asked in test for labelled in asked.queries]
    listeners = pd.factorize(np.array(users))[0]
    table = summary(found, tried, listeners, params.evaluation.bootstrap, params.evaluation.seed)
    protocol = {
        "label_queries": arguments.labels,
        "queries": len(test[0].queries),
        "starts": len(test[1].queries),
        "listeners": int(listeners.max()) + 1,
        "negatives": arguments.negatives,
        "ease_songs": params.generators.ease.max_songs,
        **update,
        "absent": absent(retrieval, params),
        "bootstrap": params.evaluation.bootstrap,
        "as_of": read_phases(arguments.data / "phases.json").as_of.isoformat(),
    }
    figures = {"trials": table.to_dict("records"), "microseconds": cost}
    path = save(f"ablation_{arguments.source}", facts, protocol, figures)
    context = ", ".join(f"{name} {value}" for name, value in protocol.items())
    text = markdown(table, cost, context)
    (arguments.work / "ablation.md").write_text(text, encoding="utf-8")
    return f"{text}\nwrote {path}\n"


def main() -> None:
    """Run every trial that `--work` does not hold yet, and write results and table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, default=data_dir(), help="lake, phases, factors")
    parser.add_argument("--work", type=Path, required=True, help="folder for what is fitted")
    parser.add_argument("--source", required=True, help="name in the results")
    parser.add_argument(
        "--until",
        type=asked_moment,
        help="refuse phases that end after this moment (ISO 8601)",
    )
    parser.add_argument("--labels", type=int, default=6000)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--starts", type=int, default=2000, help="session starts to ask for")
    parser.add_argument("--rounds", type=int, default=150)
    parser.add_argument("--learning-rate", type=float, default=0.05)
    parser.add_argument("--kinds", nargs="+", help="only these kinds of trials, besides the base")
    parser.add_argument(
        "--joint", nargs="+", default=[], help="generators and groups of features to go at once"
    )
    parser.add_argument("--negatives", type=int, default=60)
    parser.add_argument("--ease-songs", type=int, help="instead of generators.ease.max_songs")
    sys.stdout.write(run(parser.parse_args()))


if __name__ == "__main__":
    run_command(main)
