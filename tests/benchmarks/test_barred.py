"""Whom benchmarks let come again: songs of the session for everybody, or for nobody."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import modes, simulated_truth
from features.query import SessionEvent, Wishes
from tests.training.test_asking import asked, folder, proposed, recommender  # noqa: F401 - fixtures


@pytest.mark.parametrize("repeats", [False, True])
def test_everybody_bars_the_sessions_songs_or_nobody_does(recommender, proposed, repeats):  # noqa: F811
    songs = recommender.retrieval.songs
    session = tuple(SessionEvent(song, "play") for song in proposed[0][:12])
    query = replace(asked("x", session=session).query, allow_repeats=repeats)
    played = songs.indices([event.song_id for event in session])
    tops = simulated_truth.tops(recommender, query)
    again = {name for name, top in tops if np.isin(top, played).any()}
    assert (len(again) > 3) is repeats
    if not repeats:
        assert not again


def test_wishes_are_asked_as_the_service_asks():
    (query,) = modes.wished([asked("x")], Wishes(spacing=True))
    assert query.wishes.spacing
    assert not query.allow_repeats
