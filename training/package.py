"""Put retrieval and ranker together as one immutable bundle with a manifest."""

import argparse
import hashlib
import json
import shutil
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from features.columns import FEATURE_SERVICE, User, UserRow
from features.mistakes import run_command
from features.pairs import missing
from features.params import Params, load_params
from features.paths import data_dir
from features.store import historical_user_rows
from serving.bundle import SERVING_SECTIONS, load_ranker, load_retrieval, read_settings
from serving.files import LISTENERS_FILE, SETTINGS_FILE
from serving.manifest import FORMAT, MANIFEST, checksums
from training.files import FIT, RANKER_FIT, write_json
from training.phases import Cut, Phases, read_phases, refuse_later

LIBRARIES = ("lightgbm", "implicit", "numpy", "scipy", "feast", "bentoml")
LISTED = 12


def main() -> None:
    """Write the bundle of one cut, checked by loading it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--cut", choices=("test", "serving"), required=True)
    parser.add_argument("--phases", type=Path, default=data_dir() / "phases.json")
    parser.add_argument("--generators", type=Path, required=True)
    parser.add_argument("--ranker", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, help="figures to carry in the manifest")
    parser.add_argument("--users", type=Path, default=data_dir() / "lake/users.parquet")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    phases = read_phases(arguments.phases)
    out: Path = arguments.out
    if out.exists():
        shutil.rmtree(out)
    shutil.copytree(arguments.generators, out)
    shutil.copytree(arguments.ranker, out, dirs_exist_ok=True)
    params = load_params()
    write_sections(out, params)
    moment = phases.features_at(arguments.cut)
    listeners = busiest(pd.read_parquet(arguments.users, columns=[User.ID])[User.ID], moment)
    write_json(out / LISTENERS_FILE, {"listeners": listeners})
    figures = {}
    if arguments.metrics:
        figures = json.loads(arguments.metrics.read_text(encoding="utf-8"))
    write_json(out / MANIFEST, manifest(out, arguments.cut, phases, params, figures))
    load_ranker(out, load_retrieval(out).feature_names)


def write_sections(folder: Path, params: Params) -> None:
    """Add the parameters that only answers depend on to a bundle's settings, and so its version."""
    sections = params.model_dump(mode="json", include=set(SERVING_SECTIONS))
    write_json(folder / SETTINGS_FILE, read_settings(folder) | sections)


def manifest(
    folder: Path, cut: Cut, phases: Phases, params: Params, metrics: dict[str, Any]
) -> dict[str, Any]:
    """Describe a bundle; the version names its moment and its content, so equal is equal.

    Raises
    ------
    LeakError
        If the ranker or the generators saw later events than the cut may.
    """
    until = phases.fit_until(cut)
    for name in (FIT, RANKER_FIT):
        fit = json.loads((folder / name).read_text(encoding="utf-8"))
        refuse_later(f"{folder / name}", datetime.fromisoformat(fit["seen_until"]), until)
    files = checksums(folder)
    content = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    moment = phases.features_at(cut)
    return {
        "format": FORMAT,
        "version": f"{moment:%Y%m%dT%H%M}-{content[:10]}",
        "cut": cut,
        "as_of": moment.isoformat(),
        "seen_until": until.isoformat(),
        "feature_service": FEATURE_SERVICE,
        "feature_names": list(load_retrieval(folder).feature_names),
        "params": params.model_dump(mode="json"),
        "metrics": metrics,
        "libraries": {name: version(name) for name in LIBRARIES},
        "checksums": files,
    }


def busiest(user_ids: "pd.Series[str]", moment: datetime) -> list[dict[str, str]]:
    """Return listeners to try the player with: those with most plays at a moment."""
    entities = pd.DataFrame({User.ID: user_ids, UserRow.TS: pd.Timestamp(moment)})
    rows = historical_user_rows(entities)
    rows = rows[rows[UserRow.PLAYS].notna()].sort_values(
        [UserRow.PLAYS, User.ID], ascending=[False, True]
    )
    records: list[Any] = rows.head(LISTED).to_dict("records")
    return [{"user_id": row[User.ID], "label": label(row)} for row in records]


def label(row: dict[str, Any]) -> str:
    """Describe a listener in a few words from what is known of them."""
    born, region = row[User.BIRTH_YEAR], row[User.REGION]
    parts = [
        str(region) if isinstance(region, str) else "",
        "" if missing(born) else f"born {int(born)}",
        f"{int(row[UserRow.PLAYS])} plays",
    ]
    return ", ".join(part for part in parts if part)


if __name__ == "__main__":
    run_command(main)
