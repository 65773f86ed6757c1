import mmap
from pathlib import Path

import numpy as np
import pytest

from features.arrays import map_arrays, save_arrays
from serving import residency
from serving.residency import LARGE, SMAPS, Mapping, make_resident, mappings, small_paged

pytestmark = pytest.mark.skipif(not SMAPS.exists(), reason="needs Linux's /proc/self/smaps")


def mapped_pages(path: Path) -> int:
    """Return how many kilobytes of a file this process has in its page tables."""
    inside, found = False, 0
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        if "-" in line.split(" ", 1)[0]:
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            found += int(line.split()[1])
    return found


def test_files_are_mapped_and_those_that_are_seldom_read_left_alone(tmp_path: Path) -> None:
    size = 200 * mmap.PAGESIZE
    for name in ("factors_listen.npz", "search.npz"):
        save_arrays(tmp_path / name, {"values": np.zeros(size, np.uint8)})
    factors = map_arrays(tmp_path / "factors_listen.npz")
    search = map_arrays(tmp_path / "search.npz")
    before = mapped_pages(tmp_path / "search.npz")
    done = make_resident(tmp_path)
    assert done >= size
    assert mapped_pages(tmp_path / "factors_listen.npz") * 1024 >= size
    assert mapped_pages(tmp_path / "search.npz") == before < size / 1024
    assert len(factors["values"]) == len(search["values"]) == size


def test_a_large_file_in_small_pages_is_read_again_and_says_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # To whatever the file system makes of it: what a reader sees must not change.
    monkeypatch.setattr(residency, "LARGE", 1)
    values = np.random.default_rng(1).integers(0, 255, 3 * 2**20, dtype=np.uint8)
    save_arrays(tmp_path / "songs.npz", {"values": values})
    mapped = map_arrays(tmp_path / "songs.npz")["values"]
    again: list[Path] = []
    read_again = residency._read_again

    def counted(parts: list[Mapping]) -> None:
        again.extend(one.path for one in parts)
        read_again(parts)

    monkeypatch.setattr(residency, "_read_again", counted)
    monkeypatch.setattr(residency, "small_paged", lambda one: True)
    assert make_resident(tmp_path) >= len(values)
    assert again == [tmp_path / "songs.npz"]
    np.testing.assert_array_equal(mapped, values)
    assert mapped_pages(tmp_path / "songs.npz") * 1024 >= len(values)


def test_only_large_files_mostly_in_small_pages_are_read_again() -> None:
    def one(size: int, huge: int) -> Mapping:
        return Mapping(Path("/data/songs.npz"), 0, size, huge)

    assert small_paged(one(LARGE, 0))
    assert not small_paged(one(LARGE - 1, 0))
    assert not small_paged(one(LARGE, LARGE // 2))


def test_mappings_are_those_of_files_that_can_be_read() -> None:
    smaps = """\
7f00-8f00 r--s 00000000 fe:00 7                          /data/a b.npz
Size:                  4 kB
FilePmdMapped:         8 kB
VmFlags: rd mr
8f00-9f00 ---p 00000000 fe:00 7                          /data/b.npz
FilePmdMapped:         0 kB
9f00-af00 rw-p 00000000 00:00 0
FilePmdMapped:         0 kB
"""
    found = list(mappings(smaps.splitlines(keepends=True)))
    assert found == [Mapping(Path("/data/a b.npz"), 0x7F00, 0x1000, 8 * 1024)]


def test_a_folder_without_mapped_files_is_left_alone(tmp_path: Path) -> None:
    assert make_resident(tmp_path) == 0
