"""History, two label windows, test: what may be learned from when.

Example: a source from day 0 to day 100 with shares 0.1 and 0.1 and a gap of 30 minutes gives
history [0, 70 d - 30 min), earlier labels [70 d, 80 d - 30 min), labels [80 d, 90 d - 30 min),
test [90 d, 100 d). Each but the history is asked of models that were fitted to the gap before it.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal, get_args

import duckdb

from features.columns import Action, Event
from features.lake import LATE, event_files, read_summary
from features.mistakes import Mistake, run_command
from features.params import PhaseShares, load_params
from features.paths import data_dir
from training.files import FIT

Cut = Literal["earlier", "labels", "test", "serving"]
PhaseName = Literal["history", "earlier", "labels", "test"]
# With fewer listenings than this there is nothing to learn from, or to test on.
FEWEST_LISTENINGS: Final = 10
_LATE: Final = (
    " An event counts once it had arrived: {:,} did so over a day late. Where `received_ts` says "
    "when a file was loaded, leave it out by `received_ts: null` in source.columns.events."
)
CUTS: Final[tuple[Cut, ...]] = get_args(Cut)
PHASES: Final[tuple[PhaseName, ...]] = get_args(PhaseName)


class LeakError(Mistake):
    """Something learned from a time that it must not have seen."""


@dataclass(frozen=True)
class Phase:
    """A half-open span of time [start, end)."""

    start: datetime
    end: datetime


@dataclass(frozen=True)
class Phases:
    """The phases in their order, and the moment everything is refitted to.

    `earlier` is a second window of labels, as long as `labels` and right before it.
    """

    history: Phase
    earlier: Phase
    labels: Phase
    test: Phase
    as_of: datetime

    @property
    def gap(self) -> timedelta:
        """The time before a phase that generators and rankers may not learn from."""
        return self.earlier.start - self.history.end

    def phase(self, name: PhaseName) -> Phase:
        """Return a phase by its name."""
        phase: Phase = getattr(self, name)
        return phase

    def fit_until(self, cut: Cut) -> datetime:
        """Return the end (exclusive) of what models for a cut may see."""
        ends = {"earlier": self.history, "labels": self.earlier, "test": self.labels}
        return self.as_of if cut == "serving" else ends[cut].end

    def features_at(self, cut: Cut) -> datetime:
        """Return the snapshot time of the song columns that a cut's models carry."""
        return self.as_of if cut == "serving" else self.phase(cut).start

    def queries_of(self, cut: Cut) -> Phase:
        """Return the phase whose queries a cut's models may answer for learning or test."""
        if cut == "serving":
            raise LeakError("Models fitted for serving saw every phase; they can't be tested.")
        return self.phase(cut)


def split(first: datetime, as_of: datetime, shares: PhaseShares) -> Phases:
    """Cut [first, as_of) into phases with a gap between each two.

    Raises
    ------
    Mistake
        If a phase would be empty.
    """
    gap = timedelta(minutes=shares.gap_minutes)
    hours = (as_of - first) / timedelta(hours=1)
    test = as_of - timedelta(hours=round(hours * shares.test_share))
    labels_last = timedelta(hours=round(hours * shares.labels_share))
    labels = test - labels_last
    earlier = labels - labels_last
    phases = Phases(
        history=Phase(first, earlier - gap),
        earlier=Phase(earlier, labels - gap),
        labels=Phase(labels, test - gap),
        test=Phase(test, as_of),
        as_of=as_of,
    )
    for name in PHASES:
        phase = phases.phase(name)
        if phase.end <= phase.start:
            raise Mistake(
                f"The {name} phase [{phase.start}, {phase.end}) is empty: the source spans only "
                f"{hours:.1f} hours. Give it more data, or change `phases` in params.yaml."
            )
    return phases


def listening_counts(lake: Path, phases: Phases) -> dict[PhaseName, int]:
    """Return how many listenings there are to go on, by phase.

    In the history those that were not skipped, in the others those of sessions that begin there.
    """
    files = [str(path) for _, path in event_files(lake)]
    asked = PHASES[1:]
    begun = ", ".join(
        f"count(*) FILTER (WHERE start >= ${name}_start AND known < ${name}_end)" for name in asked
    )
    bounds = {f"{name}_start": phases.phase(name).start for name in asked}
    bounds |= {f"{name}_end": phases.phase(name).end for name in PHASES}
    with duckdb.connect(config={"memory_limit": "1GB", "threads": 2}) as connection:
        connection.read_parquet(files).create_view("stored")
        found = connection.execute(
            f"""
            WITH events AS (
                SELECT *, greatest({Event.TS}, {Event.RECEIVED}) AS known FROM stored
            ), began AS (
                SELECT {Event.SESSION}, min({Event.TS}) AS start FROM events GROUP BY ALL
            )
            SELECT count(*) FILTER (WHERE {Event.ACTION} = $play AND known < $history_end),
                {begun}
            FROM events JOIN began USING ({Event.SESSION}) WHERE {Event.ACTION} IN ($play, $skip)
            """,
            {"play": Action.PLAY, "skip": Action.SKIP, **bounds},
        ).fetchall()
    return dict(zip(PHASES, found[0], strict=True))


def refuse_few(counts: Mapping[PhaseName, int], phases: Phases, late: int = 0) -> None:
    """Raise Mistake if a phase has too few listenings to go on; `late` arrived days after."""
    hint = _LATE.format(late) if late else ""
    if not any(counts.values()):
        raise Mistake(
            "The lake holds no `play` and no `skip`: there is nothing to learn from. Where every "
            "row of the source is a listening, import it without its column for `action`." + hint
        )
    few = [name for name, count in counts.items() if count < FEWEST_LISTENINGS]
    if few:
        lines = [
            f"  {name}, {start} to {end}: {counts[name]:,}"
            for name, (start, end) in spans(phases).items()
        ]
        raise Mistake(
            f"Too few listenings in {' and '.join(few)}; each phase needs {FEWEST_LISTENINGS} (the "
            "history not skipped, the others in sessions that begin there). There are:\n"
            + "\n".join(lines)
            + "\nA stray event long before or after the others stretches the phases: take it out, "
            "or let them end earlier with `phases.as_of` in params.yaml. Else give more data, or "
            "change `phases`." + hint
        )


def refuse_leak(what: str, seen_until: datetime, phase: Phase, gap: timedelta) -> None:
    """Raise LeakError if `what` saw the phase it is to be used on, or the gap before it."""
    if seen_until > phase.start - gap:
        raise LeakError(
            f"{what} has seen events until {seen_until.isoformat()}, but it is used on the phase "
            f"that starts {phase.start.isoformat()} after a gap of {gap}. Refit it on earlier data."
        )


def refuse_later(what: str, seen_until: datetime, until: datetime) -> None:
    """Raise LeakError if `what` saw later events than a cut may."""
    if seen_until > until:
        raise LeakError(
            f"{what} has seen events until {seen_until.isoformat()}, this cut ends at "
            f"{until.isoformat()}. Refit it on earlier data."
        )


def refuse_leaky(folder: Path, phases: Phases, cut: Cut) -> None:
    """Raise LeakError if the generators in a folder saw the phase they are to be used on."""
    fit = json.loads((folder / FIT).read_text(encoding="utf-8"))
    seen_until = datetime.fromisoformat(fit["seen_until"])
    refuse_leak(f"{folder}", seen_until, phases.queries_of(cut), phases.gap)


def spans(phases: Phases) -> dict[PhaseName, list[str]]:
    """Return the start and the end of each phase as ISO 8601 texts."""
    return {
        name: [phases.phase(name).start.isoformat(), phases.phase(name).end.isoformat()]
        for name in PHASES
    }


def write_phases(phases: Phases, path: Path) -> None:
    """Write the phases as JSON with ISO 8601 times."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**spans(phases), "as_of": phases.as_of.isoformat()}, indent=2)
    path.write_text(text + "\n", encoding="utf-8")


def read_phases(path: Path) -> Phases:
    """Read what `write_phases` wrote; `FileNotFoundError` where nothing was."""
    if not path.exists():
        raise FileNotFoundError(f"There is no {path}; `dvc repro phases` writes it.")
    raw = json.loads(path.read_text(encoding="utf-8"))
    read = {name: Phase(*map(datetime.fromisoformat, raw[name])) for name in PHASES}
    return Phases(**read, as_of=datetime.fromisoformat(raw["as_of"]))


def main() -> None:
    """Write the phases of the lake's time span."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--lake", type=Path, default=data_dir() / "lake")
    parser.add_argument("--out", type=Path, default=data_dir() / "phases.json")
    arguments = parser.parse_args()
    shares = load_params().phases
    summary = read_summary(arguments.lake)
    first = datetime.fromisoformat(summary["first_ts"])
    # Whatever has arrived is known to the last models; what came late would be to none else.
    end = datetime.fromisoformat(summary["last_known_ts"]) + timedelta(microseconds=1)
    as_of = shares.as_of.astimezone(UTC) if shares.as_of else end
    if as_of > end:
        raise Mistake(f"phases.as_of {as_of} is after the last event {end}; choose earlier.")
    if as_of <= first:
        raise Mistake(f"phases.as_of {as_of} is not after the first event {first}; choose later.")
    phases = split(first, as_of, shares)
    refuse_few(listening_counts(arguments.lake, phases), phases, summary.get(LATE, 0))
    write_phases(phases, arguments.out)


if __name__ == "__main__":
    run_command(main)
