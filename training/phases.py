"""History, labels, test: what may be learned from when.

Example: a source from day 0 to day 100 with shares 0.1 and 0.1 and a gap of 30 minutes gives
history [0, 80 d - 30 min), labels [80 d, 90 d - 30 min), test [90 d, 100 d).
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

import duckdb

from features.columns import Action, Event
from features.lake import event_files, read_summary
from features.params import PhaseShares, load_params

Cut = Literal["labels", "test", "serving"]
# With fewer listenings than this there is nothing to learn from, or to test on.
FEWEST: Final = 10
CUTS: Final[tuple[Cut, ...]] = ("labels", "test", "serving")


class LeakError(ValueError):
    """Something learned from a time that it must not have seen."""


@dataclass(frozen=True)
class Phase:
    """A half-open span of time [start, end)."""

    start: datetime
    end: datetime


@dataclass(frozen=True)
class Phases:
    """The three phases and the moment everything is refitted to."""

    history: Phase
    labels: Phase
    test: Phase
    as_of: datetime

    @property
    def gap(self) -> timedelta:
        """The time that nobody may learn from, before a phase."""
        return self.labels.start - self.history.end

    def fit_until(self, cut: Cut) -> datetime:
        """Return the end (exclusive) of what models for a cut may see."""
        return {"labels": self.history.end, "test": self.labels.end, "serving": self.as_of}[cut]

    def features_at(self, cut: Cut) -> datetime:
        """Return the snapshot time of the song columns that a cut's models carry."""
        return {"labels": self.labels.start, "test": self.test.start, "serving": self.as_of}[cut]

    def queries_of(self, cut: Cut) -> Phase:
        """Return the phase whose queries a cut's models may answer for learning or test."""
        if cut == "serving":
            raise LeakError("Models fitted for serving saw every phase; they can't be tested.")
        return self.labels if cut == "labels" else self.test


def split(first: datetime, as_of: datetime, shares: PhaseShares) -> Phases:
    """Cut [first, as_of) into phases with a gap between each two.

    Raises
    ------
    ValueError
        If a phase would be empty.
    """
    gap = timedelta(minutes=shares.gap_minutes)
    hours = (as_of - first) / timedelta(hours=1)
    test = as_of - timedelta(hours=round(hours * shares.test_share))
    labels = test - timedelta(hours=round(hours * shares.labels_share))
    phases = Phases(
        Phase(first, labels - gap), Phase(labels, test - gap), Phase(test, as_of), as_of
    )
    for name in ("history", "labels", "test"):
        phase: Phase = getattr(phases, name)
        if phase.end <= phase.start:
            raise ValueError(
                f"The {name} phase [{phase.start}, {phase.end}) is empty: the source spans only "
                f"{hours:.1f} hours. Give it more data, or change `phases` in params.yaml."
            )
    return phases


def listenings(lake: Path, phases: Phases) -> dict[str, int]:
    """Return how many listenings there are to go on, by phase.

    In the history those that were not skipped, in the others those of sessions that begin there.
    """
    files = [str(path) for _, path in event_files(lake)]
    with duckdb.connect(config={"memory_limit": "1GB", "threads": 2}) as connection:
        connection.read_parquet(files).create_view("events")
        found = connection.execute(
            f"""
            WITH began AS (
                SELECT {Event.SESSION}, min({Event.TS}) AS start FROM events GROUP BY ALL
            )
            SELECT count(*) FILTER (WHERE {Event.ACTION} = $play AND {Event.TS} < $history_end),
                count(*) FILTER (WHERE start >= $labels_start AND {Event.TS} < $labels_end),
                count(*) FILTER (WHERE start >= $test_start AND {Event.TS} < $test_end)
            FROM events JOIN began USING ({Event.SESSION}) WHERE {Event.ACTION} IN ($play, $skip)
            """,
            {
                "play": Action.PLAY,
                "skip": Action.SKIP,
                "history_end": phases.history.end,
                "labels_start": phases.labels.start,
                "labels_end": phases.labels.end,
                "test_start": phases.test.start,
                "test_end": phases.test.end,
            },
        ).fetchall()
    return dict(zip(("history", "labels", "test"), found[0], strict=True))


def refuse_few(counts: Mapping[str, int], phases: Phases) -> None:
    """Raise ValueError if a phase has too few listenings to go on."""
    few = [name for name, count in counts.items() if count < FEWEST]
    if few:
        spans = [(name, getattr(phases, name)) for name in counts]
        lines = [
            f"  {name}, {span.start.isoformat()} to {span.end.isoformat()}: {counts[name]:,}"
            for name, span in spans
        ]
        raise ValueError(
            f"Too few listenings in {' and '.join(few)}; each phase needs {FEWEST} (the history "
            "not skipped, labels and test in sessions that begin there). There are:\n"
            + "\n".join(lines)
            + "\nA stray event long before the others stretches the phases: take it out. Else give "
            "more data, or change `phases` in params.yaml."
        )


def refuse_leak(what: str, seen_until: datetime, phase: Phase, gap: timedelta) -> None:
    """Raise LeakError if `what` saw the phase it is to be used on, or the gap before it."""
    if seen_until > phase.start - gap:
        raise LeakError(
            f"{what} has seen events until {seen_until.isoformat()}, but it is used on the phase "
            f"that starts {phase.start.isoformat()} after a gap of {gap}. Refit it on earlier data."
        )


def refuse_stale(folder: Path, phases: Phases, cut: Cut) -> None:
    """Raise LeakError if the generators in a folder saw the phase they are to be used on."""
    fit = json.loads((folder / "fit.json").read_text(encoding="utf-8"))
    seen_until = datetime.fromisoformat(fit["seen_until"])
    refuse_leak(f"{folder}", seen_until, phases.queries_of(cut), phases.gap)


def write_phases(phases: Phases, path: Path) -> None:
    """Write the phases as JSON with ISO 8601 times."""
    spans = {
        name: [getattr(phases, name).start.isoformat(), getattr(phases, name).end.isoformat()]
        for name in ("history", "labels", "test")
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**spans, "as_of": phases.as_of.isoformat()}, indent=2)
    path.write_text(text + "\n", encoding="utf-8")


def read_phases(path: Path) -> Phases:
    """Read what `write_phases` wrote."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    spans = {
        name: Phase(*map(datetime.fromisoformat, raw[name]))
        for name in ("history", "labels", "test")
    }
    return Phases(**spans, as_of=datetime.fromisoformat(raw["as_of"]))


def main() -> None:
    """Write the phases of the lake's time span."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--lake", type=Path, default=Path("data/lake"))
    parser.add_argument("--out", type=Path, default=Path("data/phases.json"))
    arguments = parser.parse_args()
    shares = load_params().phases
    summary = read_summary(arguments.lake)
    first = datetime.fromisoformat(summary["first_ts"])
    end = datetime.fromisoformat(summary["last_ts"]) + timedelta(microseconds=1)
    as_of = shares.as_of.astimezone(UTC) if shares.as_of else end
    if as_of > end:
        raise ValueError(f"phases.as_of {as_of} lies after the last event {end}; choose earlier.")
    phases = split(first, as_of, shares)
    refuse_few(listenings(arguments.lake, phases), phases)
    write_phases(phases, arguments.out)


if __name__ == "__main__":
    main()
