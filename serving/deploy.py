"""Deploy a bundle: check it, fill the online store, then make it the served one, atomically.

data/served/<version>/   immutable copies of bundles
data/served/current      symlink to the one in use; a running service follows it by itself
data/served/.taken-back  versions that were rolled back from, a line each
"""

import argparse
import logging
import shutil
import sqlite3
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from features.locks import alone_in
from features.mistakes import MISTAKE, Mistake, told
from features.paths import data_dir, served_bundle
from features.store import apply, materialize
from serving.live import load
from serving.manifest import BundleError, read_manifest

log = logging.getLogger("serving.deploy")

TAKEN_BACK: Final = ".taken-back"


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
    if there is None:
        place(bundle, target)
    elif there["checksums"] != manifest["checksums"]:
        raise BundleError(f"{target} holds another bundle of that version; remove it first.")
    return target


def place(bundle: Path, target: Path) -> None:
    """Copy a bundle to where none is, or a damaged one."""
    partial, damaged = (target.with_name(f".{target.name}.{word}") for word in ("part", "damaged"))
    # Broken installs, of other bundles too, may have left them.
    for ending in ("part", "damaged"):
        for left in target.parent.glob(f".*.{ending}"):
            shutil.rmtree(left, ignore_errors=True)
    try:
        shutil.copytree(bundle, partial)
        if target.exists():
            log.warning("%s is damaged and is replaced.", target)
            # Aside: whoever has it open goes on reading it.
            target.rename(damaged)
        partial.rename(target)
    except OSError as error:
        # Half a copy would keep the space that others need, as where the disk is full.
        shutil.rmtree(partial, ignore_errors=True)
        if damaged.exists() and not target.exists():
            damaged.rename(target)
        raise BundleError(f"{bundle} could not be copied to {target}: {told(error)}") from error
    shutil.rmtree(damaged, ignore_errors=True)


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
    ahead = (
        f"The gate: in its test, a single method was ahead of bundle {manifest['version']} "
        "(`Behind a single method` in data/report/report.md)."
    )
    if link.exists() and link.resolve().name != manifest["version"]:
        raise BundleError(f"{ahead} To deploy it all the same: --past-gate.")
    log.warning("%s Nothing else is served, so it is deployed.", ahead)


def taken_back(served: Path) -> set[str]:
    """Return the versions that were rolled back from and not asked for since."""
    listed = served / TAKEN_BACK
    return set(listed.read_text(encoding="utf-8").split()) if listed.exists() else set()


def note_rollback(served: Path, refused: str, chosen: str) -> None:
    """Note that somebody chose a version over another."""
    versions = sorted((taken_back(served) | {refused}) - {chosen})
    fresh = served / f"{TAKEN_BACK}.part"
    fresh.write_text("".join(f"{version}\n" for version in versions), encoding="utf-8")
    fresh.replace(served / TAKEN_BACK)


def make_ready(bundle: Path) -> None:
    """Check that a bundle can answer, and fill the online store as of its moment."""
    manifest = load(bundle).recommender.manifest
    log.info("feature store: apply and materialize until %s", manifest["as_of"])
    apply()
    materialize(datetime.fromisoformat(manifest["as_of"]))


def point(link: Path, target: Path) -> None:
    """Make `link` lead to `target` in one step: readers see the old or the new, never neither."""
    fresh = link.with_name(f".{link.name}.part")
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
    try:
        if link.is_dir() and not link.is_symlink():
            raise Mistake(f"{link} (SEGUE_BUNDLE) is a folder; name a link.")
        link.parent.mkdir(parents=True, exist_ok=True)
        # To the end: what fails takes its copy away, which another one may be about to serve.
        with alone_in(link.parent):
            if arguments.version is not None:
                roll_back(arguments.version, link)
            else:
                deploy_newest(arguments.bundle, link, is_gated=not arguments.past_gate)
    except (ValueError, OSError, sqlite3.Error) as error:
        failed = f"Nothing was deployed. {told(error)}"
        # Not so where the machine failed, as by a full disk: trying again may do.
        is_mistake = isinstance(error, Mistake | FileNotFoundError)
        if is_mistake and not isinstance(error.__cause__, OSError):
            parser.exit(MISTAKE, f"{failed}\n")
        sys.exit(failed)


def roll_back(version: str, link: Path) -> None:
    """Serve a version that was served before, and remember what it was preferred to."""
    if version in ("", ".", "..") or "/" in version:
        raise Mistake(f"{version!r} is no version; `ls {link.parent}` shows those there are.")
    chosen = (link.parent / version).resolve()
    if not chosen.is_dir():
        raise Mistake(f"{version} was never deployed; `ls {link.parent}` shows what was.")
    deploy(chosen, link, refused=link.resolve().name if link.exists() else None)


def deploy_newest(bundle: Path, link: Path, is_gated: bool) -> None:
    """Serve what was trained last, unless it was rolled back from: nothing is new about it then."""
    manifest = read_manifest(bundle)
    version = str(manifest["version"])
    if version in taken_back(link.parent):
        log.warning(
            "Bundle %s was rolled back from, so that what is served stays. To serve it again: "
            "--version %s.",
            version,
            version,
        )
        return
    if is_gated:
        refuse_behind(manifest, link)
    deploy(bundle, link)


def deploy(bundle: Path, link: Path, refused: str | None = None) -> None:
    """Install a bundle, make it ready and let `link` lead to it; a copy that fails goes again.

    `refused` is the version that is rolled back from.
    """
    before = {path.name for path in link.parent.iterdir()}
    target = install(bundle, link.parent)
    try:
        make_ready(target)
    except BaseException:
        if target.name not in before:
            shutil.rmtree(target, ignore_errors=True)
        raise
    if refused is not None:
        # Before the link moves: whoever repeats a killed rollback no longer knows from where.
        note_rollback(link.parent, refused, target.name)
    point(link, target)
    log.info("%s now leads to %s", link, target.name)


if __name__ == "__main__":
    main()
