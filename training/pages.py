"""The report as sections, read from the tables that `training.report` and others wrote.

The same sections become report.md, the published Markdown and the HTML page. They hold aggregates
only.
"""

import html
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from features.pairs import missing
from training import calibration, tables
from training.comparison import FEWEST_LISTENERS, methods_table
from training.error_analysis import FATES
from training.gate import behind, sentences
from training.metrics import LABELS, TASKS

# With fewer queries of a task the report warns.
ENOUGH: Final = 200
Cells = Mapping[str, Callable[[Any], str]]


@dataclass(frozen=True)
class Section:
    """A title, paragraphs and Markdown tables, and the name of the picture that goes with them."""

    title: str
    parts: Sequence[str]
    picture: str | None = None


def table(frame: pd.DataFrame, cells: Cells) -> str:
    """Return a Markdown table of the columns named in `cells`, each written by its function."""
    rows = frame.to_dict("records")
    return tables.markdown_table(
        list(cells), [[write(row[name]) for name, write in cells.items()] for row in rows]
    )


def share(value: Any) -> str:
    """Write a share as a percentage."""
    return f"{value:.1%}"


def score(value: Any) -> str:
    """Write a metric."""
    return "" if missing(value) else f"{value:.4f}"


def count(value: Any) -> str:
    """Write a whole number."""
    return f"{value:,.0f}"


def methods(folder: Path) -> list[Section]:
    """Return each method's figures, a section a task."""
    summary = pd.read_csv(folder / "methods.csv")
    figures = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    found = []
    for task in TASKS:
        part = summary[summary["task"] == task]
        if part.empty:
            continue
        pool = figures[task.replace(" ", "_")]["pool"]
        told = (
            f"{int(part['queries'].max()):,} queries; the pool holds {pool['size']:.0f} songs and "
            f"the answer in {pool['recall']:.1%} of them."
        )
        picture = "methods" if task == TASKS[0] else None
        found.append(Section(task.capitalize(), [told, methods_table(part)], picture))
    return found


def gate(folder: Path) -> list[Section]:
    """Return a warning where one method alone beats Segue, and nothing where none does."""
    lost = behind(pd.read_csv(folder / "methods.csv"))
    if lost.empty:
        return []
    told = (
        "**One method alone is ahead of Segue** (paired interval below zero, widened for the "
        "number of methods), so this model does not replace a served one unless asked to "
        "(`serving.deploy --past-gate`). Often the labels are unlike the test phase: look at the "
        "slices, and at the source's times and sessions."
    )
    return [Section("Behind a single method", [told, *sentences(lost)])]


def few_queries(folder: Path) -> list[Section]:
    """Return a warning where a task has too few queries to judge by, and nothing where none has."""
    asked = pd.read_csv(folder / "methods.csv").groupby("task")["queries"].max()
    thin = asked[asked < ENOUGH]
    if thin.empty:
        return []
    counts = ", ".join(f"{count(asked)} of {task}s" for task, asked in thin.items())
    told = (
        f"**The test phase has few queries** ({counts}): figures of so few may come out otherwise "
        "the next time, as their intervals say. A larger `phases.test_share` in params.yaml, or "
        "more data, gives more."
    )
    return [Section("Few queries", [told])]


def few_listeners(folder: Path) -> list[Section]:
    """Return a warning where a task has too few listeners for intervals, else nothing."""
    by_task = pd.read_csv(folder / "methods.csv").groupby("task")["low"]
    unsure = [str(task) for task, lows in by_task if lows.isna().all()]
    if not unsure:
        return []
    told = (
        f"**Fewer than {FEWEST_LISTENERS} listeners were asked** ({', '.join(unsure)}). Intervals "
        "over so few are too narrow to be believed: there are none, and nothing counts as ahead "
        "or behind, also at the gate."
    )
    return [Section("Few listeners", [told])]


def wins(folder: Path) -> list[Section]:
    """Return where Segue is ahead of and behind the best of its generators and popularity."""
    rows = pd.read_csv(folder / "wins.csv")
    if rows.empty:
        few = "No slice has enough queries to say; more test data would."
        return [Section("Where Segue wins and loses", [few])]
    told = (
        "Against the best generator (or popularity) of each slice, which is picked on these very "
        "queries and so looks better than it is. Ahead or behind: the paired 95 % interval of the "
        "difference lies beside zero."
    )
    return [Section("Where Segue wins and loses", [told, *verdicts(rows)], "wins")]


def verdicts(rows: pd.DataFrame, other: str = "best other") -> list[str]:
    """Return a sentence that counts the verdicts, what is lost, and NDCG@10 by slice."""
    counts = rows["verdict"].value_counts()
    slices = len(rows[["task", "slice"]].drop_duplicates())
    told = (
        f"Over {slices} slices and {rows['metric'].nunique()} metrics: "
        + ", ".join(f"{counts.get(word, 0)} {word}" for word in ("ahead", "level", "behind"))
        + "."
    )
    lost = rows[rows["verdict"] == "behind"]
    shown = pd.concat([rows[rows["metric"] == "ndcg_10"], lost[lost["metric"] != "ndcg_10"]])
    named = shown.assign(metric=shown["metric"].map(LABELS).fillna(shown["metric"]))
    named = named.rename(columns={"method": other, "value": "its value"})
    named["Segue ahead by"] = [
        f"{lead:+.4f}{tables.bounds(low, high, form='+.4f')}"
        for lead, low, high in zip(
            shown["lead"], shown["lead_low"], shown["lead_high"], strict=True
        )
    ]
    cells: dict[str, Callable[[Any], str]] = {"task": str, "slice": str, "queries": count}
    cells |= {"metric": str, other: str, "its value": score}
    return [told, table(named, cells | {"segue": score, "Segue ahead by": str, "verdict": str})]


def fates(folder: Path) -> list[Section]:
    """Return where the answers went."""
    told = (
        "Each query once, by where the song that was played ended up. Never heard: by anyone "
        "before the fit. Never met: in no earlier session with any song of the running session "
        "(at a session start, with any song of the listener's history)."
    )
    found = pd.read_csv(folder / "fates.csv")
    cells: dict[str, Callable[[Any], str]] = {"task": str, "slice": str, "queries": count}
    met = pd.read_csv(folder / "meetings.csv").rename(
        columns={"in_pool": "in the pool", "found_20": "ranked 1-20"}
    )
    names = ("share", "in the pool", "ranked 1-20")
    kinds: dict[str, Callable[[Any], str]] = {"task": str, "meeting": str, "queries": count}
    meetings = table(met, kinds | dict.fromkeys(names, share))
    every = table(found, cells | dict.fromkeys(FATES, share))
    return [Section("Where the answers are lost", [told, meetings, every], "fates")]


def candidates(folder: Path) -> list[Section]:
    """Return the curve over the size of the pool."""
    found = pd.read_csv(folder / "candidates.csv").rename(columns=LABELS)
    told = (
        f"Of {found['task'].iloc[0]}s: recall of the pool and what the ranker makes of it, if only "
        "the best N candidates by reciprocal rank fusion of the generators were ranked; `size` is "
        "the mean."
    )
    cells = {"candidates": count, "size": count, "recall": score}
    part = table(found, cells | dict.fromkeys(LABELS.values(), score))
    return [Section("Number of candidates", [told, part], "candidates")]


def calibrated(folder: Path) -> list[Section]:
    """Return how far the probabilities may be taken at their word."""
    figures = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["calibration"]
    picture = "calibration" if figures else None
    return [Section("Calibration", calibration.markdown(figures), picture)]


def importance(folder: Path) -> list[Section]:
    """Return what the ranker looks at."""
    told = "Share of the ranker's total gain, by generator (its score and rank) or feature group."
    found = pd.read_csv(folder / "importance_groups.csv")
    part = table(found, {"group": str, "features": count, "share": share})
    return [Section("What the ranker looks at", [told, part], "importance")]


def label_queries(folder: Path) -> list[Section]:
    """Return the curve over the number of label queries."""
    told = (
        "Rankers fitted on seeded parts of the label queries, measured within the rows of the test "
        "phase (the answer against sampled candidates, so higher than the figures above)."
    )
    found = pd.read_csv(folder / "label_queries.csv").rename(columns=LABELS)
    cells = {"label_queries": count} | dict.fromkeys(LABELS.values(), score)
    return [Section("Number of label queries", [told, table(found, cells)], "label_queries")]


def quotas(folder: Path) -> list[Section]:
    """Return how many candidates from whom."""
    told = (
        "Recall of the pool on the label phase: the present quotas, their proportions at other "
        "sizes, and greedy marginal recall. `recall` of greedy quotas is measured on the half of "
        "the listeners that they were not chosen on, `recall_seen` on all that they were chosen "
        "on. Of each generator the first 200 proposals count."
    )
    found = pd.read_csv(folder / "quotas.csv")
    plain: dict[str, Callable[[Any], str]] = {"pool": str, "size": count}
    plain |= {"recall": score, "recall_seen": score}
    names = [name for name in found.columns if name not in plain and found[name].any()]
    part = table(found, plain | dict.fromkeys(names, count))
    return [Section("How many candidates from whom", [told, part], "quotas")]


def time_of_week(_: Path) -> list[Section]:
    """Return why the models of the time of the week are off unless they are asked for."""
    told = (
        "Daypart features and the tensor listener x song x daypart are off by default: measured, "
        "they bring nothing that can be told from noise for what they cost at each request "
        "(docs/ablation.md has the figures, docs/time.md the switches)."
    )
    return [Section("Time of the week", [told])]


OF_THE_EVALUATION: Final = (
    gate,
    few_queries,
    few_listeners,
    methods,
    wins,
    fates,
    candidates,
    calibrated,
    importance,
    time_of_week,
)
ALL: Final = (*OF_THE_EVALUATION, label_queries, quotas)


def sections(
    folder: Path, chosen: Sequence[Callable[[Path], list[Section]]] = ALL
) -> list[Section]:
    """Return the sections of a report's folder, what was asked first."""
    about = (folder / "about.txt").read_text(encoding="utf-8").strip()
    return [Section("Evaluation on the test phase", [about])] + [
        section for make in chosen for section in make(folder)
    ]


def peers(path: Path) -> Section:
    """Return where Segue wins and loses against the best peer, from the peers' bench's file."""
    found = json.loads(path.read_text(encoding="utf-8"))
    rows = pd.DataFrame(found["figures"]["best_peer_per_slice"])
    told = (
        f"Against the best method of `benchmarks/peers` for each task, slice and metric (cut of "
        f"{found['cut']['as_of'][:10]}), picked on these very queries."
    )
    return Section("Against the best peer", [told, *verdicts(rows, "best peer")])


def markdown(parts: Sequence[Section], pictures: Mapping[str, str] | None = None) -> str:
    """Return the sections as Markdown; `pictures` gives the file of each picture."""
    files = pictures or {}
    blocks = []
    for place, part in enumerate(parts):
        blocks.append(f"{'##' if place else '#'} {part.title}")
        if part.picture in files:
            blocks.append(f"![{part.title}]({files[str(part.picture)]})")
        blocks += part.parts
    return "\n\n".join(blocks) + "\n"


def page(parts: Sequence[Section], pictures: Mapping[str, str]) -> str:
    """Return a self-contained HTML page; `pictures` gives the address of each picture."""
    blocks = []
    for place, part in enumerate(parts):
        level = 2 if place else 1
        blocks.append(f"<h{level}>{html.escape(part.title)}</h{level}>")
        if part.picture in pictures:
            address, alt = pictures[str(part.picture)], html.escape(part.title)
            blocks.append(f'<img src="{address}" alt="{alt}">')
        blocks += [_html(text) for text in part.parts]
    return PAGE.format(title=html.escape(parts[0].title), body="\n".join(blocks))


def _html(text: str) -> str:
    """Return a paragraph or a Markdown table as HTML."""
    if not text.startswith("|"):
        return f"<p>{_inline(text)}</p>"
    head, _, *body = (tables.cells_of(line) for line in text.splitlines())
    rows = [f"<tr>{''.join(f'<th>{_inline(cell)}</th>' for cell in head)}</tr>"]
    rows += [f"<tr>{''.join(f'<td>{_inline(cell)}</td>' for cell in line)}</tr>" for line in body]
    return f'<div class="wide"><table>{"".join(rows)}</table></div>'


def _inline(text: str) -> str:
    return re.sub(r"`(.+?)`", r"<code>\1</code>", html.escape(text))


PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1000px; margin: 2rem auto;
  padding: 0 1rem; }}
h2 {{ margin-top: 2.5rem; border-bottom: 1px solid #ddd; padding-bottom: .3rem; }}
img {{ max-width: 100%; display: block; margin: 1rem 0; }}
.wide {{ overflow-x: auto; margin: 1rem 0; }}
table {{ border-collapse: collapse; font-size: 13px; white-space: nowrap; }}
th, td {{ padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #eee; }}
th {{ background: #f6f6f6; }}
th:first-child, td:first-child {{ text-align: left; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""
