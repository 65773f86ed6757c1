"""A bundle's manifest: what the bundle is, and whether its files are as they were written."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from features.mistakes import Mistake

MANIFEST: Final = "manifest.json"
FORMAT: Final = 2
# Larger files are checked by blocks.
WHOLE_BYTES: Final = 256 * 2**20
BLOCK_BYTES: Final = 2**20
BLOCKS: Final = 64
# Where a bundle does not tell: the length of histories in params.yaml.
HISTORY_SONGS: Final = 128


class BundleError(Mistake):
    """A bundle that is missing, damaged, or made for another version of the code."""


def checksums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file but the manifest, by name."""
    files = sorted(path for path in folder.iterdir() if path.name != MANIFEST)
    return {path.name: _digest(path) for path in files}


def _digest(path: Path) -> str:
    """Return a file's SHA-256; of a large file that of its size and of blocks all over it.

    A start would otherwise wait for gigabytes to be read. Cut off, mixed up or overwritten parts
    are found, single flipped bits of large files are not.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= WHOLE_BYTES:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest = hashlib.sha256(str(size).encode())
        for block in range(BLOCKS):
            file.seek((size - BLOCK_BYTES) * block // (BLOCKS - 1))
            digest.update(file.read(BLOCK_BYTES))
        return digest.hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest and check that the directory is what it says.

    Raises
    ------
    BundleError
        If the bundle is missing, its format is another, or a file is missing or changed.
    """
    path = folder / MANIFEST
    if not path.exists():
        raise BundleError(f"There is no bundle at {folder}; `make pipeline` makes and deploys one.")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        form, expected = manifest["format"], manifest["checksums"]
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} is damaged ({error}); deploy the bundle again.") from error
    if form != FORMAT:
        raise BundleError(
            f"{folder} has bundle format {form}, this code reads {FORMAT}; train again."
        )
    found = checksums(folder)
    wrong = sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n))
    if wrong:
        raise BundleError(f"{folder} is damaged: {wrong} missing or changed; deploy it again.")
    return manifest


def history_songs(manifest: Mapping[str, Any]) -> int:
    """Return how many songs the histories held that a bundle's ranker learnt from."""
    features = manifest.get("params", {}).get("features", {})
    return int(features.get("history_songs", HISTORY_SONGS))
