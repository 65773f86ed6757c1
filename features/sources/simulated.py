"""The simulator's world, as `python -m simulation` wrote it: the contract's tables in Parquet."""

from pathlib import Path

from features.sources.files import Files


def open_simulated(path: Path) -> Files:
    """Return the source; `FileNotFoundError` if the simulator has not written to `path`."""
    if not path.is_dir():
        raise FileNotFoundError(f"There is no folder {path}; `dvc repro ingest` simulates first.")
    return Files(path)
