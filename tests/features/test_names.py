"""Titles and artists by row: the same from a frame and from a file, over several batches."""

from pathlib import Path

import pandas as pd
import pytest

from features.columns import Song
from features.names import map_names, names, save_names

TITLES = ["Señor", None, "", "🎵 夜", "e", None, "g"]
ARTISTS = [["A"], [], ["B", "Ç"], ["D", None, "E"], [None], None, ["F"]]
NAMED = [["A"], [], ["B", "Ç"], ["D", "E"], [], [], ["F"]]


@pytest.fixture(params=[2, 3, 100])
def rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("features.names.ROWS", request.param)
    return int(request.param)


def test_each_row_is_read_as_it_was_written(rows: int, tmp_path: Path) -> None:
    made = names(pd.DataFrame({Song.TITLE: TITLES, Song.ARTISTS: ARTISTS}))
    assert len(made.batches[0]) == min(rows, len(TITLES))
    path = tmp_path / "songs.arrow"
    save_names(path, made.batches)
    for found in (made, map_names(path)):
        assert [found.title(row) for row in range(len(TITLES))] == TITLES
        assert [found.artists(row) for row in range(len(TITLES))] == NAMED


def test_rows_without_any_text() -> None:
    found = names(pd.DataFrame({Song.TITLE: [None, None], Song.ARTISTS: [[], []]}))
    assert [found.title(0), found.title(1)] == [None, None]
    assert [found.artists(0), found.artists(1)] == [[], []]
