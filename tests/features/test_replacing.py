"""A folder is replaced as a whole, or it is as it was."""

from pathlib import Path

import pytest

from features.replacing import NEW, replaced


def write(folder: Path, text: str) -> None:
    """Replace a folder by one that holds a file."""
    with replaced(folder) as work:
        (work / NEW).mkdir()
        (work / NEW / "file").write_text(text, encoding="utf-8")


def found(folder: Path) -> tuple[str, list[str]]:
    """Return what the file says, and what lies beside the folder."""
    text = (folder / "file").read_text(encoding="utf-8")
    return text, [path.name for path in folder.parent.iterdir()]


def test_what_was_made_takes_the_place_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "folder"
    for text in ("one", "two"):
        write(folder, text)
        assert found(folder) == (text, ["folder"])


def test_a_block_that_fails_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write(folder, "one")
    with pytest.raises(TypeError, match="must be str"):
        write(folder, b"no text")  # type: ignore[arg-type]
    assert found(folder) == ("one", ["folder"])


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_swap_that_is_broken_off_puts_back_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    folder, rename = tmp_path / "folder", Path.rename
    write(folder, "one")

    def broken(path: Path, target: Path) -> Path:
        if path.name == NEW:
            raise error
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", broken)
    with pytest.raises(error):
        write(folder, "two")
    assert found(folder) == ("one", ["folder"])
