"""The report's pictures, drawn by matplotlib from the tables that `training.report` wrote."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from training.error_analysis import FATES
from training.metrics import TASKS

BLUE: Final = "#2b6cb0"
GREY: Final = "#9aa5b1"
VERDICTS: Final = {"ahead": "#2f855a", "level": GREY, "behind": "#c53030"}
FATE_COLOURS: Final = ("#2b6cb0", "#90cdf4", "#f6ad55", "#fc8181", "#a0aec0")
STYLE: Final[Mapping[str, Any]] = {"axis": "x", "color": "#e2e8f0", "linewidth": 0.8}
# Inches a row of a bar chart.
ROW: Final = 0.27


def canvas(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return an empty figure with axes side by side, without frames."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = list(figure.subplots(1, columns, squeeze=False)[0])
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.set_axisbelow(True)
    return figure, axes


def intervals(axes: Axes, values: pd.Series, low: pd.Series, high: pd.Series) -> None:
    """Draw 95 % intervals over horizontal bars."""
    places = np.arange(len(values))
    axes.hlines(places, low, high, color="#1a202c", linewidth=1.2)


def methods(folder: Path) -> Figure:
    """Draw NDCG@10 of every method, a panel a task, best on top."""
    rows = pd.read_csv(folder / "methods.csv")
    rows = rows[rows["metric"] == "ndcg_10"]
    tasks = [task for task in TASKS if (rows["task"] == task).any()]
    height = 0.9 + ROW * rows["method"].nunique()
    figure, panels = canvas(10, height, len(tasks))
    for axes, task in zip(panels, tasks, strict=True):
        part = rows[rows["task"] == task].sort_values("value", ignore_index=True)
        colours = [BLUE if method == "segue" else GREY for method in part["method"]]
        axes.barh(part["method"], part["value"], color=colours)
        intervals(axes, part["value"], part["low"], part["high"])
        axes.grid(**STYLE)
        # More labels than these would touch each other.
        axes.locator_params("x", nbins=5)
        axes.set(title=task.capitalize(), xlabel="NDCG@10, 95 % interval")
    return figure


def wins(folder: Path) -> Figure:
    """Draw Segue's lead over the best other method of each slice of the first task."""
    rows = of_first_task(pd.read_csv(folder / "wins.csv"))
    part = rows[rows["metric"] == "ndcg_10"].iloc[::-1].reset_index(drop=True)
    figure, (axes,) = canvas(10, 1 + ROW * len(part))
    colours = [VERDICTS[verdict] for verdict in part["verdict"]]
    names = [
        f"{one}  ({count:,})" for one, count in zip(part["slice"], part["queries"], strict=True)
    ]
    places = np.arange(len(part))
    axes.hlines(places, part["lead_low"], part["lead_high"], color=colours, linewidth=2.5)
    axes.scatter(part["lead"], places, color=colours, zorder=3, s=28)
    axes.axvline(0, color="#1a202c", linewidth=1)
    axes.set_yticks(places, names)
    for place, method in enumerate(part["method"]):
        beside = axes.get_yaxis_transform()
        axes.text(1.01, place, method, transform=beside, va="center", fontsize=8, color="#4a5568")
    axes.grid(**STYLE)
    axes.margins(y=0.02)
    axes.set(xlabel="NDCG@10: Segue less the best other method (named at the right)")
    title = f"{rows['task'].iloc[0].capitalize()}: where Segue wins (green) and loses (red)"
    axes.set_title(f"{title}; slice and queries", loc="left")
    return figure


def of_first_task(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the task that comes first: next songs, where there are any."""
    return rows[rows["task"] == rows["task"].iloc[0]]


def fates(folder: Path) -> Figure:
    """Draw where the answers went, a bar a slice of the first task."""
    rows = of_first_task(pd.read_csv(folder / "fates.csv")).iloc[::-1].reset_index(drop=True)
    figure, (axes,) = canvas(10, 1.4 + ROW * len(rows))
    left = np.zeros(len(rows))
    for fate, colour in zip(FATES, FATE_COLOURS, strict=True):
        axes.barh(rows["slice"], rows[fate], left=left, color=colour, label=fate)
        left += rows[fate].to_numpy()
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.margins(y=0.02)
    axes.set_title(rows["task"].iloc[0].capitalize(), loc="left")
    figure.legend(loc="outside upper center", ncols=len(FATES), frameon=False, fontsize=8)
    return figure


def calibration(folder: Path) -> Figure:
    """Draw what was said against what happened, a panel a probability."""
    rows = pd.read_csv(folder / "calibration.csv")
    names = list(rows["probability"].unique())
    figure, panels = canvas(5 * len(names), 4.6, len(names))
    for axes, name in zip(panels, names, strict=True):
        part = rows[rows["probability"] == name]
        edge = 1.08 * float(part[["said", "high"]].max().max())
        axes.plot([0, edge], [0, edge], color=GREY, linestyle="--", linewidth=1)
        axes.vlines(part["said"], part["low"], part["high"], color=BLUE, alpha=0.5, linewidth=1.5)
        axes.plot(part["said"], part["happened"], "o-", color=BLUE, markersize=4)
        axes.set(xlim=(0, edge), ylim=(0, edge), xlabel="said", ylabel="happened", title=name)
        axes.grid(color="#e2e8f0", linewidth=0.8)
    return figure


def importance(folder: Path) -> Figure:
    """Draw each group's share of the gain."""
    rows = pd.read_csv(folder / "importance_groups.csv").iloc[::-1]
    figure, (axes,) = canvas(8, 0.8 + ROW * len(rows))
    axes.barh(rows["group"], rows["share"], color=BLUE)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.grid(**STYLE)
    axes.margins(y=0.02)
    axes.set_xlabel("share of the ranker's gain")
    return figure


def candidates(folder: Path) -> Figure:
    """Draw recall and HR@20 by the number of candidates."""
    rows = pd.read_csv(folder / "candidates.csv")
    lines = {"recall": "in the pool", "hr_20": "ranked 1-20 (HR@20)", "ndcg_10": "NDCG@10"}
    return curve(rows, "candidates", lines, "best candidates of the pool")


def label_queries(folder: Path) -> Figure:
    """Draw the metrics by the number of label queries."""
    rows = pd.read_csv(folder / "label_queries.csv")
    lines = {"hr_10": "HR@10", "mrr_20": "MRR@20", "ndcg_10": "NDCG@10"}
    return curve(rows, "label_queries", lines, "label queries")


def curve(rows: pd.DataFrame, x: str, lines: Mapping[str, str], label: str) -> Figure:
    """Draw columns of a table over one other."""
    figure, (axes,) = canvas(7, 3.8)
    for (name, text), colour in zip(lines.items(), FATE_COLOURS[::2], strict=False):
        axes.plot(rows[x], rows[name], "o-", color=colour, label=text, markersize=4)
    axes.grid(color="#e2e8f0", linewidth=0.8)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(label)
    figure.legend(loc="outside upper center", ncols=len(lines), frameon=False)
    return figure


def quotas(folder: Path) -> Figure:
    """Draw the pool's recall over its mean size, for present proportions and greedy quotas."""
    rows = pd.read_csv(folder / "quotas.csv").sort_values("size")
    figure, (axes,) = canvas(7, 3.8)
    greedy = rows["pool"].str.endswith("greedy")
    for keep, colour, text in ((~greedy, GREY, "present quotas"), (greedy, BLUE, "greedy")):
        part = rows[keep]
        axes.plot(part["size"], part["recall"], "o-", color=colour, label=text, markersize=4)
    now = rows[rows["pool"] == "now"]
    axes.scatter(now["size"], now["recall"], color="#1a202c", zorder=3, label="now")
    axes.grid(color="#e2e8f0", linewidth=0.8)
    axes.set(xlabel="mean pool size", ylabel="recall on the label phase")
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return figure


PICTURES: Final[Mapping[str, Callable[[Path], Figure]]] = {
    "methods": methods,
    "wins": wins,
    "fates": fates,
    "candidates": candidates,
    "calibration": calibration,
    "importance": importance,
    "label_queries": label_queries,
    "quotas": quotas,
}
