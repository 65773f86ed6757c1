"""Hard rules bar songs: hand-worked cases."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from features.catalogue import catalogue
from features.columns import Song, User
from features.query import Query, Wishes
from serving.rules import Rights, allowed
from tests.serving.conftest import AS_OF, SONGS, songs_frame


@pytest.fixture(scope="module")
def songs():
    explicit = pd.array([True if i % 4 == 0 else None for i in range(SONGS)], dtype="boolean")
    regions = [["Europe"] if i % 5 == 0 else ["Asia", "Africa"] if i % 5 == 1 else None
               for i in range(SONGS)]  # fmt: skip
    return catalogue(
        songs_frame().assign(**{Song.EXPLICIT: explicit, Song.REGIONS_AVAILABLE: regions})
    )


ALL = np.arange(SONGS, dtype=np.int32)


def barred(songs, *, user=None, **wishes):
    query = Query(ts=AS_OF, user=user or {}, wishes=Wishes(**wishes))
    mask = Rights.of(songs).permitted(query, songs, ALL)
    return set() if mask is None else set(np.flatnonzero(~mask).tolist())


def test_explicit_songs_are_barred_where_they_are_not_allowed(songs):
    assert barred(songs, allow_explicit=False) == set(range(0, SONGS, 4))
    assert barred(songs, allow_explicit=True) == set()


def test_songs_are_barred_where_they_are_not_available(songs):
    here, elsewhere = set(range(0, SONGS, 5)), set(range(1, SONGS, 5))
    assert barred(songs, user={User.REGION: "Europe"}) == elsewhere
    assert barred(songs, user={User.REGION: "Africa"}) == here
    assert barred(songs, user={User.REGION: "Moon"}) == here | elsewhere
    assert barred(songs, user={User.REGION: None}) == set()


def test_withdrawn_songs_are_barred_for_everybody():
    withdrawn = pd.array([True, False, *[None] * (SONGS - 2)], dtype="boolean")
    assert barred(catalogue(songs_frame().assign(**{Song.WITHDRAWN: withdrawn}))) == {0}


def test_refused_languages_are_barred_and_unknown_ones_bar_nothing(songs):
    assert barred(songs, refused_languages=frozenset({"hi", "xx"})) == set(range(1, SONGS, 3))
    assert barred(songs, refused_languages=frozenset({"xx"})) == set()


def test_hard_rules_add_up(songs):
    both = barred(songs, allow_explicit=False, refused_languages=frozenset({"hi"}))
    assert both == set(range(0, SONGS, 4)) | set(range(1, SONGS, 3))


def test_a_source_without_the_columns_restricts_nothing():
    plain = catalogue(songs_frame())
    assert barred(plain, user={User.REGION: "Europe"}, allow_explicit=False) == set()
    rights = Rights.of(catalogue(songs_frame().assign(**{Song.REGIONS_AVAILABLE: None})))
    assert rights.regions is None
    query = replace(Query(ts=AS_OF), user={User.REGION: "Europe"})
    assert rights.permitted(query, plain, ALL) is None


def test_allowed_songs_keep_their_order():
    assert allowed(np.array([5, 1, 3]), np.array([1, 7])).tolist() == [5, 3]
    assert allowed(np.array([5, 1]), np.empty(0, np.int32)).tolist() == [5, 1]
