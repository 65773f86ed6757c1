"""Draw the daypart maps of a report as one PNG: a 7 x 4 heat map for each map."""

import argparse
from pathlib import Path
from typing import Final

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from features.mistakes import run_command
from features.paths import data_dir

COLUMNS: Final = 4


def draw(maps: pd.DataFrame, title: str, out: Path) -> None:
    """Draw the maps (columns map, weekday, hours, value) in the order they come."""
    names = list(dict.fromkeys(maps["map"]))
    rows = -(-len(names) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(3.1 * COLUMNS, 3.2 * rows), squeeze=False)
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    for axis, name in zip(axes.flat, names, strict=False):
        panel(axis, maps[maps["map"] == name], name)
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(out, dpi=90)
    plt.close(figure)


def panel(axis: Axes, part: pd.DataFrame, name: str) -> None:
    """Draw one map, its numbers in the cells; orange is above 0, purple below."""
    table = part.pivot_table(index="weekday", columns="hours", values="value")
    most = max(float(table.abs().to_numpy().max()), 1e-9)
    axis.imshow(table, cmap="PuOr_r", vmin=-most, vmax=most, aspect="auto")
    axis.set_title(name, fontsize=10)
    axis.set_xticks(range(len(table.columns)), table.columns, fontsize=8)
    axis.set_yticks(range(len(table)), [day[2:] for day in table.index], fontsize=8)
    for y, row in enumerate(table.to_numpy()):
        for x, value in enumerate(row):
            text = f"{value:.1f}" if most > 1.5 else f"{value:.2f}"
            shade = "white" if abs(value) > 0.7 * most else "#222222"
            axis.text(x, y, text, ha="center", va="center", fontsize=8, color=shade)


def main() -> None:
    """Draw a report's maps."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--maps", type=Path, default=data_dir() / "report/daypart_maps.csv")
    parser.add_argument("--title", default="When songs are heard (local hours)")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    draw(pd.read_csv(arguments.maps), arguments.title, arguments.out)


if __name__ == "__main__":
    run_command(main)
