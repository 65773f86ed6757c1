"""Deploy a bundle: check it, fill the online store, then make it the served one, atomically.

data/served/<version>/   immutable copies of bundles
data/served/current      symlink to the one in use; a running service follows it by itself
"""

import argparse
import logging
import os
import shutil
import sqlite3
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from features.paths import data_dir, served_bundle
from features.store import apply, materialize
from serving.bundle import BundleError, read_manifest
from serving.live import load

log = logging.getLogger("serving.deploy")


def install(bundle: Path, served: Path) -> Path:
    """Copy a bundle next to the served ones, under its version; whole or not at all.

    A copy that has been damaged since is replaced.

    Raises
    ------
    BundleError
        If the bundle is damaged or cannot be copied, or other content is installed under its
        version.
    """
    manifest = read_manifest(bundle)
    target = served / str(manifest["version"])
    there = whole(target)
    if there is not None:
        if there["checksums"] != manifest["checksums"]:
            raise BundleError(f"{target} holds another bundle of that version; remove it first.")
        return target
    partial = served / f".{target.name}.{os.getpid()}"
    # Broken installs may have left some.
    for left in served.glob(f".{target.name}.*"):
        shutil.rmtree(left, ignore_errors=True)
    try:
        shutil.copytree(bundle, partial)
    except OSError as error:
        # Else it would keep the space that others need, as where the disk is full.
        shutil.rmtree(partial, ignore_errors=True)
        raise BundleError(f"{bundle} could not be copied to {served}: {error}") from error
    if target.exists():
        log.warning("%s is damaged and is replaced.", target)
        damaged = target.with_name(f"{partial.name}.damaged")
        # Aside first: whoever has it open goes on reading it.
        target.rename(damaged)
        partial.replace(target)
        shutil.rmtree(damaged, ignore_errors=True)
        return target
    partial.replace(target)
    return target


def whole(target: Path) -> dict[str, Any] | None:
    """Return the manifest of an installed bundle, None where there is none or it is damaged."""
    if not target.exists():
        return None
    try:
        return read_manifest(target)
    except BundleError:
        return None


def refuse_behind(manifest: Mapping[str, Any], link: Path) -> None:
    """Keep what is served from being replaced by a bundle that a single method beat in its test.

    Where nothing else is served, such a bundle is better than none: that is only said.

    Raises
    ------
    BundleError
        If it was beaten (`gate.behind` of its metrics) and `link` leads to another one.
    """
    gate = manifest.get("metrics", {}).get("gate")
    if gate is None:
        log.warning("Bundle %s carries no figures of a test to be judged by.", manifest["version"])
    if not (gate or {}).get("behind"):
        return
    told = (
        f"The gate: in its test, a single method was ahead of bundle {manifest['version']} "
        "(`Behind a single method` in data/report/report.md)."
    )
    if link.exists() and link.resolve().name != manifest["version"]:
        raise BundleError(f"{told} To deploy it all the same: --past-gate.")
    log.warning("%s Nothing else is served, so it is deployed.", told)


def point(link: Path, target: Path) -> None:
    """Make `link` lead to `target` in one step: readers see the old or the new, never neither."""
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target.name)
    fresh.replace(link)


def main() -> None:
    """Deploy a bundle, or point back to one that was deployed before."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("feast").setLevel(logging.WARNING)
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--bundle", type=Path, default=data_dir() / "bundles" / "serving")
    parser.add_argument("--version", help="serve this deployed version again")
    parser.add_argument("--past-gate", action="store_true", help="whatever its test said")
    arguments = parser.parse_args()
    link = served_bundle()
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_dir() and not link.is_symlink():
        sys.exit(f"Nothing was deployed. {link} (SEGUE_BUNDLE) is a folder; name a link.")
    bundle = link.parent / arguments.version if arguments.version else arguments.bundle
    try:
        if not (arguments.version or arguments.past_gate):
            refuse_behind(read_manifest(bundle), link)
        target = install(bundle, link.parent)
        manifest = load(target).recommender.manifest
    except BundleError as error:
        sys.exit(f"Nothing was deployed. {error}")
    log.info("feature store: apply and materialize until %s", manifest["as_of"])
    try:
        apply()
        materialize(datetime.fromisoformat(manifest["as_of"]))
    except (ValueError, OSError, sqlite3.Error) as error:
        sys.exit(f"Nothing was deployed. {error}")
    point(link, target)
    log.info("%s now leads to %s", link, target.name)


if __name__ == "__main__":
    main()
