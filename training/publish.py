"""Turn the report's tables into a page, or into Markdown and pictures that may be committed.

    python -m training.publish                              data/report/report.html
    python -m training.publish --out reports/30music        README.md and PNG files
    python -m training.publish --out reports/30music --peers benchmarks/results/peers_NAME.json

Both hold aggregates only: no listener, song or event is named.
"""

import argparse
import base64
import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib

from features.mistakes import run_command
from features.paths import data_dir
from training import pages
from training.pictures import PICTURES

# So that the same tables give the same bytes.
NO_DATES: Final = {"Software": None}


def draw(folder: Path, parts: Sequence[pages.Section]) -> dict[str, bytes]:
    """Return the PNG pictures that the sections name."""
    names = [part.picture for part in parts if part.picture]
    return {name: _png(folder, name) for name in names}


def _png(folder: Path, name: str) -> bytes:
    stream = io.BytesIO()
    # Names of the data, such as a region's, may hold dollars and are no formulas.
    with matplotlib.rc_context({"text.parse_math": False}):
        PICTURES[name](folder).savefig(stream, format="png", dpi=110, metadata=NO_DATES)
    return stream.getvalue()


def write_page(folder: Path, parts: Sequence[pages.Section], path: Path) -> None:
    """Write one HTML file with its pictures inside."""
    drawn = draw(folder, parts)
    inside = {
        name: f"data:image/png;base64,{base64.b64encode(data).decode()}"
        for name, data in drawn.items()
    }
    path.write_text(pages.page(parts, inside), encoding="utf-8")


def write_markdown(folder: Path, parts: Sequence[pages.Section], out: Path) -> None:
    """Write README.md and a PNG file a picture."""
    out.mkdir(parents=True, exist_ok=True)
    drawn = draw(folder, parts)
    for name, data in drawn.items():
        (out / f"{name}.png").write_bytes(data)
    text = pages.markdown(parts, {name: f"{name}.png" for name in drawn})
    (out / "README.md").write_text(text, encoding="utf-8")


def main() -> None:
    """Write the page, or what may be committed."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--report", type=Path, default=data_dir() / "report")
    parser.add_argument("--out", type=Path, help="a folder for Markdown and PNG files")
    parser.add_argument("--peers", type=Path, help="a result file of `benchmarks.peers.score`")
    arguments = parser.parse_args()
    folder: Path = arguments.report
    parts = pages.sections(folder)
    if arguments.peers:
        parts.append(pages.peers(arguments.peers))
    if arguments.out:
        write_markdown(folder, parts, arguments.out)
    else:
        write_page(folder, parts, folder / "report.html")
    sys.stdout.write(f"wrote {arguments.out or folder / 'report.html'}\n")


if __name__ == "__main__":
    run_command(main)
