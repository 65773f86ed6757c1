"""Nearness of songs by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from features.columns import Song
from serving.nearness import nearness


def test_genre_stands_in_for_factors_that_are_not_known() -> None:
    codes = {
        Song.ARTISTS: SimpleNamespace(codes=np.array([0, 0, 1, -1, 2])),
        Song.GENRES: SimpleNamespace(codes=np.array([5, 6, 5, 5, -1])),
    }
    songs = SimpleNamespace(codes=codes, audio=np.full((5, 5), np.nan, np.float32))
    factors = np.array([[1, 0], [1, 0], [0, 1], [0, 0], [3, 4]], np.float32)
    listen = SimpleNamespace(item_factors=factors)

    def near(candidates: list[int], anchor: int) -> list[float]:
        found = nearness(songs, listen, np.array(candidates), np.array([anchor]))  # type: ignore[arg-type]
        return list(found)

    # Artist and cosine: the genre is not asked where both were heard.
    assert near([1, 2, 4], 0) == pytest.approx([1, 0, (0 + 0.6) / 2])
    # Nobody heard song 3, of which no artist is known: its genre alone counts, where it is known.
    assert near([0, 1, 2, 4], 3) == [1, 0, 1, 0]
