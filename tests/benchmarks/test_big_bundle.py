"""The drawn catalogue is what it says, and its bundle is one that the service takes."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.big_bundle import numbered, write_bundle
from benchmarks.big_world import FACTORS, MOST_LINKS, link_counts, links, sessions, world
from benchmarks.recall import exact_top
from features.params import load_params
from serving.live import load

SONGS = 3_000


@pytest.fixture(scope="module")
def drawn():
    return world(SONGS, 2, seed=3)


def test_plays_have_a_heavy_tail(drawn):
    ordered = np.sort(drawn.plays)[::-1]
    assert ordered[: SONGS // 100].sum() > 0.1 * ordered.sum()
    assert np.median(ordered) < 3


def test_songs_are_listed_by_style_the_most_played_first(drawn):
    for style, (start, end) in enumerate(zip(drawn.starts[:-1], drawn.starts[1:], strict=True)):
        own = drawn.by_style[start:end]
        assert (drawn.style[own] == style).all()
        assert (np.diff(drawn.plays[own]) <= 0).all()
    assert sorted(drawn.by_style.tolist()) == list(range(SONGS))


def test_links_and_sessions_stay_within_a_style(drawn):
    found = np.concatenate([songs for songs, _ in links(drawn, 0)])
    counts = link_counts(drawn.plays)
    assert counts.max() <= MOST_LINKS
    owner = np.repeat(np.arange(SONGS), counts)
    assert (drawn.style[found] == drawn.style[owner]).all()
    same = owner[1:] == owner[:-1]
    assert (np.diff(found)[same] >= 0).all()
    bounds, played = sessions(drawn, 50)
    assert all(len(set(drawn.style[part])) == 1 for part in np.split(played, bounds[1:-1]))


def test_factors_are_the_same_each_time(drawn):
    one, two = (next(iter(drawn.factors())) for _ in range(2))
    assert one.shape == (2, SONGS, FACTORS)
    np.testing.assert_array_equal(one, two)


def test_numbered_words_ascend():
    assert numbered("s", 12, 3).tolist() == sorted(f"s{i:03d}".encode() for i in range(12))


def test_the_exact_top_agrees_with_a_sort():
    random = np.random.default_rng(2)
    factors = random.normal(size=(1_000, 4)).astype(np.float32)
    vectors = random.normal(size=(3, 4)).astype(np.float32)
    for found, product in zip(exact_top(vectors, factors), vectors @ factors.T, strict=True):
        assert set(found) == set(np.argsort(-product)[: len(found)])


@pytest.mark.slow
def test_the_bundle_is_one_that_the_service_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGUE_DATA", str(tmp_path / "out" / "data"))
    write_bundle(SONGS, tmp_path / "out", load_params(), bodies=20)
    loaded = load(tmp_path / "out" / "bundle")
    assert len(loaded.recommender.retrieval.songs) == SONGS
    assert loaded.lookup.name_index.search("word1", 3)
    bodies = json.loads((tmp_path / "out" / "bodies.json").read_text())
    assert {len(body["session"]) for body in bodies} == {10}
