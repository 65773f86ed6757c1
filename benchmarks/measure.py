"""What the benchmarks share: interleaving, summaries, facts of the machine, result files."""

import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from features.mistakes import Mistake
from features.paths import PROJECT
from training.files import write_json
from training.phases import Phases

RESULTS: Final = PROJECT / "benchmarks" / "results"
PACKAGES: Final = ("bentoml", "duckdb", "implicit", "lightgbm", "numpy", "pandas", "scipy")
MIB: Final = 2**20


def interleaved(names: Sequence[str], rounds: int) -> Iterator[tuple[int, str]]:
    """Yield (round, name): all names in each round, so that a drift hits all alike.

    Examples
    --------
    >>> list(interleaved(["a", "b"], 2))
    [(0, 'a'), (0, 'b'), (1, 'a'), (1, 'b')]
    """
    return ((turn, name) for turn in range(rounds) for name in names)


@contextmanager
def made_whole(folder: Path) -> Iterator[Path]:
    """Give a fresh folder that becomes `folder` at the end; what was killed before that is lost."""
    fresh = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    yield fresh
    fresh.rename(folder)


def refuse_main_weeks(phases: Phases, until: datetime) -> None:
    """Refuse data whose test phase ends after a moment.

    Raises
    ------
    Mistake
        If it does.
    """
    if phases.test.end > until:
        raise Mistake(
            f"The test phase ends at {phases.test.end}, not by --until {until}: settings may not "
            "be chosen on the main test phase. Train as of an earlier moment (phases.as_of)."
        )


def refuse_other_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Refuse a folder of results that were made with other settings; a new one remembers these.

    Raises
    ------
    Mistake
        If it holds others; the message names what differs.
    """
    path, ours = folder / "settings.json", json.loads(json.dumps(settings))
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(path, ours)
    theirs = json.loads(path.read_text(encoding="utf-8"))
    if differ := sorted(name for name in ours | theirs if ours.get(name) != theirs.get(name)):
        raise Mistake(f"{folder} was made with other {', '.join(differ)}; name an empty folder.")


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that `work` takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, smallest and largest.

    Examples
    --------
    >>> spread([3.0, 1.0, 2.0])
    {'median': 2.0, 'min': 1.0, 'max': 3.0}
    """
    return {
        "median": float(np.median(values)),
        "min": float(np.min(values)),
        "max": float(np.max(values)),
    }


def ratios(ours: Sequence[float], base: Sequence[float]) -> list[float]:
    """Return ours / base, round by round: each pair ran one after the other.

    Raises
    ------
    ValueError
        If the rounds do not pair up.
    """
    return [mine / other for mine, other in zip(ours, base, strict=True)]


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return p50 and p99 in milliseconds, and how many were measured.

    A percentile is a value that was measured: the smallest that so many are not above.
    """
    p50, p99 = np.percentile(seconds, [50, 99], method="inverted_cdf") * 1000
    return {"count": len(seconds), "p50_ms": float(p50), "p99_ms": float(p99)}


def machine() -> dict[str, Any]:
    """Return cores, memory, versions, time and the load average of the last minute."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(pages / 2**30, 1),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {name: version(name) for name in PACKAGES},
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_before": round(os.getloadavg()[0], 2),
    }


def save(
    name: str, facts: Mapping[str, Any], protocol: Mapping[str, Any], figures: Mapping[str, Any]
) -> Path:
    """Write `results/<name>.json`: machine, protocol and figures."""
    path = RESULTS / f"{name}.json"
    after = {"load_after": round(os.getloadavg()[0], 2)}
    content = {"machine": {**facts, **after}, "protocol": protocol, "figures": figures}
    write_json(path, rounded(content))
    return path


def rounded(content: Any) -> Any:
    """Return the content with its floats at five significant digits; None for NaN."""
    if isinstance(content, Mapping):
        return {str(name): rounded(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [rounded(value) for value in content]
    if isinstance(content, float):
        return None if np.isnan(content) else float(f"{content:.5g}")
    return content


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return aligned columns as text, the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = []
    for row in (header, *rows):
        first = row[0].ljust(widths[0])
        rest = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([first, *rest]))
    return "\n".join(lines) + "\n"
