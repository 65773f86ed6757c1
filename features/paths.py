"""Where things live: the one place that reads the process environment."""

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


def data_dir() -> Path:
    """Return the folder of everything the pipeline makes (`SEGUE_DATA`, default `data`)."""
    return PROJECT / os.environ.get("SEGUE_DATA", "data")


def served_bundle() -> Path:
    """Return the deployed bundle (`SEGUE_BUNDLE`, default `data/served/current`)."""
    return PROJECT / os.environ.get("SEGUE_BUNDLE", data_dir() / "served" / "current")
