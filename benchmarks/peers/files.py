"""Names of the files that the bench's steps hand on, and their columns."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

TUNED: Final = Path(__file__).with_name("tuned.json")


@dataclass(frozen=True)
class Folder:
    """The folder of one cut: `seen` is for the methods, `hidden` for the scorer alone."""

    root: Path

    @property
    def manifest(self) -> Path:
        """What the cut is and how much is in it."""
        return self.root / "seen" / "manifest.json"

    def plays(self, fit: str) -> Path:
        """Return the plays that a fit may see: `history` or `all` (history and labels)."""
        return self.root / "seen" / f"plays_{fit}.parquet"

    def queries(self, phase: str) -> Path:
        """Return the questions of a phase: `labels` or `test`."""
        return self.root / "seen" / f"queries_{phase}.parquet"

    def truth(self, phase: str) -> Path:
        """Return the answers: those of `labels` may be learned from, those of `test` not."""
        return self.root / ("seen" if phase == "labels" else "hidden") / f"truth_{phase}.parquet"

    def tops(self, method: str, phase: str) -> Path:
        """Return a method's own best songs with scores, before any repeat policy."""
        return self.root / "tops" / f"{method}_{phase}.npz"

    def answers(self, method: str, repeats: bool = True) -> Path:
        """Return a method's final answers to the test phase's queries.

        Without `repeats`, those that hold no song of the running session whatever its policy says.
        """
        return self.root / ("answers" if repeats else "no_repeats") / f"{method}.parquet"

    def facts(self, method: str) -> Path:
        """Return what a method used and what it took."""
        return self.root / "answers" / f"{method}.json"
