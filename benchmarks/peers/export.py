"""Write what any method may see of a cut as plain Parquet, and the answers in a place apart.

Runs in the main environment on a data folder (`SEGUE_DATA`) that holds the lake, the phases and
the features of the cut. The queries are those of Segue's own evaluation.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.peers.files import Folder
from features.columns import Action, Event, UserRow
from features.lake import read_events, read_songs
from features.mistakes import run_command
from features.params import Params, load_params
from features.paths import PROJECT, data_dir
from training.dataset import phase_queries
from training.metrics import NEXT, START
from training.phases import Cut, Phases, read_phases, spans
from training.queries import Labelled, Sample

HISTORY = (UserRow.HISTORY_SONGS, UserRow.HISTORY_LAST_TS, UserRow.HISTORY_PLAYS)


def plays(lake: Path, until: datetime) -> pd.DataFrame:
    """Return the listenings before a moment: user, song, session, time, seconds heard."""
    columns = [Event.ID, Event.USER, Event.SONG, Event.SESSION, Event.TS, Event.PLAYED_MS]
    events = read_events(lake, None, until, [*columns, Event.ACTION], known_by=until)
    heard = events[events[Event.ACTION].isin(Action.LISTENINGS)]
    heard = heard.sort_values([Event.SESSION, Event.TS], kind="stable", ignore_index=True)
    seconds = heard[Event.PLAYED_MS] / 1000
    return heard[columns[1:5]].assign(seconds=seconds)


def questions(queries: Sequence[Labelled]) -> pd.DataFrame:
    """Return one row a query with what was known when it was asked."""
    rows = [
        {
            "query_id": item.query_id,
            "user_id": item.user_id,
            "ts": item.query.ts,
            "session": [
                event.song_id for event in item.query.session if event.action in Action.LISTENINGS
            ],
            **{name: listed(item.query.user.get(name)) for name in HISTORY},
        }
        for item in queries
    ]
    return pd.DataFrame(rows)


def listed(values: Any) -> list[Any]:
    """Return a list cell of the feature store as a list, an absent one as empty."""
    return [] if values is None or isinstance(values, float) else list(values)


def truth(queries: Sequence[Labelled], heard: pd.DataFrame) -> pd.DataFrame:
    """Return one row a query: what was played, the songs still to come, and how it had been met.

    Parameters
    ----------
    heard
        The plays that the fit for these queries sees.
    """
    met = meetings(heard)
    rows = [
        {
            "query_id": item.query_id,
            "user_id": item.user_id,
            "task": NEXT if item.place else START,
            "answer": item.answer,
            "rest": list(dict.fromkeys(item.rest)),
            "met": met(item),
        }
        for item in queries
    ]
    return pd.DataFrame(rows)


def meetings(heard: pd.DataFrame) -> Any:
    """Return a function that names how a query's answer had met its song before in `heard`."""
    sessions = heard.groupby(Event.SESSION, sort=False)[Event.SONG]
    after = set(
        zip(sessions.shift(1).dropna(), heard[Event.SONG][sessions.cumcount() > 0], strict=True)
    )
    of_song = heard.groupby(Event.SONG)[Event.SESSION].agg(set).to_dict()

    def name(item: Labelled) -> str:
        if item.is_start:
            return "start"
        last = item.query.session[-1].song_id
        if (last, item.answer) in after:
            return "followed it before"
        shared = of_song.get(last, set()) & of_song.get(item.answer, set())
        return "shared a session" if shared else "never met it"

    return name


def export(lake: Path, phases: Phases, params: Params, folder: Folder) -> dict[str, Any]:
    """Write all files of a cut and return the manifest."""
    for path in (folder.manifest, folder.truth("test")):
        path.parent.mkdir(parents=True, exist_ok=True)
    counts: dict[str, Any] = {}
    fits: tuple[tuple[Cut, str, Sample], ...] = (
        ("labels", "history", Sample.of(params.ranker)),
        ("test", "all", Sample.of(params.evaluation)),
    )
    for phase, fit, sample in fits:
        heard = plays(lake, phases.fit_until(phase))
        queries = phase_queries(lake, phases, phase, params.features.history_songs, sample)
        heard.to_parquet(folder.plays(fit), index=False)
        questions(queries).to_parquet(folder.queries(phase), index=False)
        truth(queries, heard).to_parquet(folder.truth(phase), index=False)
        counts |= {f"plays_{fit}": len(heard), f"queries_{phase}": len(queries)}
    return {
        "as_of": phases.as_of.isoformat(),
        "phases": spans(phases),
        "catalogue": len(read_songs(lake)),
        "bootstrap": params.evaluation.bootstrap,
        "seed": params.evaluation.seed,
        **counts,
    }


def main() -> None:
    """Export one cut."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--params", type=Path, default=PROJECT / "params.yaml")
    parser.add_argument("--out", type=Path, required=True, help="the cut's folder")
    arguments = parser.parse_args()
    folder = Folder(arguments.out)
    phases = read_phases(data_dir() / "phases.json")
    manifest = export(data_dir() / "lake", phases, load_params(arguments.params), folder)
    folder.manifest.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(f"wrote {manifest} to {arguments.out}\n")


if __name__ == "__main__":
    run_command(main)
