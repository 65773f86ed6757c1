"""Deploy a bundle: check it, fill the online store, then make it the served one, atomically.

data/served/<version>/   immutable copies of bundles
data/served/current      symlink to the one in use; a running service follows it by itself
"""

import argparse
import logging
import os
import shutil
import sys
from datetime import datetime
from pathlib import Path

from features.paths import data_dir, served_bundle
from features.store import apply, materialize
from serving.bundle import BundleError, read_manifest
from serving.live import load

log = logging.getLogger("serving.deploy")


def install(bundle: Path, served: Path) -> Path:
    """Copy a bundle next to the served ones, under its version; whole or not at all.

    Raises
    ------
    BundleError
        If the bundle is damaged, or other content is installed under its version.
    """
    manifest = read_manifest(bundle)
    target = served / str(manifest["version"])
    if target.exists():
        if read_manifest(target)["checksums"] != manifest["checksums"]:
            raise BundleError(f"{target} holds another bundle of that version; remove it first.")
        return target
    partial = served / f".{target.name}.{os.getpid()}"
    # A broken install may have left one: in a container each process has the same id.
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(bundle, partial)
    partial.replace(target)
    return target


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
    arguments = parser.parse_args()
    link = served_bundle()
    link.parent.mkdir(parents=True, exist_ok=True)
    bundle = link.parent / arguments.version if arguments.version else arguments.bundle
    try:
        target = install(bundle, link.parent)
        manifest = load(target).recommender.manifest
    except BundleError as error:
        sys.exit(f"Nothing was deployed. {error}")
    log.info("feature store: apply and materialize until %s", manifest["as_of"])
    apply()
    try:
        materialize(datetime.fromisoformat(manifest["as_of"]))
    except ValueError as error:
        sys.exit(f"Nothing was deployed. {error}")
    point(link, target)
    log.info("%s now leads to %s", link, target.name)


if __name__ == "__main__":
    main()
