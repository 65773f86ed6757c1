import mmap
from pathlib import Path

import numpy as np
import pytest

from features.arrays import map_arrays, save_arrays
from serving.residency import MAPS, make_resident

pytestmark = pytest.mark.skipif(not MAPS.exists(), reason="needs Linux's /proc/self/maps")


def mapped_pages(path: Path) -> int:
    """Return how many kilobytes of a file this process has in its page tables."""
    inside, found = False, 0
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        if "-" in line.split(" ", 1)[0]:
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            found += int(line.split()[1])
    return found


def test_scattered_files_are_mapped_and_others_left_alone(tmp_path: Path) -> None:
    size = 200 * mmap.PAGESIZE
    for name in ("factors_listen.npz", "songs.npz"):
        save_arrays(tmp_path / name, {"values": np.zeros(size, np.uint8)})
    factors = map_arrays(tmp_path / "factors_listen.npz")
    songs = map_arrays(tmp_path / "songs.npz")
    before = mapped_pages(tmp_path / "songs.npz")
    done = make_resident(tmp_path)
    assert done >= size
    assert mapped_pages(tmp_path / "factors_listen.npz") * 1024 >= size
    assert mapped_pages(tmp_path / "songs.npz") == before < size / 1024
    assert len(factors["values"]) == len(songs["values"]) == size


def test_a_folder_without_mapped_files_is_left_alone(tmp_path: Path) -> None:
    assert make_resident(tmp_path) == 0
