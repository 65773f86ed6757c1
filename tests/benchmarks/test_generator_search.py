"""A search of one generator finds what is better, and fits it as the pipeline does."""

from types import SimpleNamespace

import numpy as np
import optuna
import pytest

from benchmarks.generator_search import (
    FITTED,
    Questions,
    figures,
    fitted,
    judged,
    only,
    read_questions,
    search,
    suggest,
)
from features.params import load_params
from serving.bundle import load_retrieval
from tests.training.test_leaks import LATER, PAST, PHASES, fit

PARAMS = load_params()
VECTORS = PARAMS.generators.vectors


class Says:
    """A generator that proposes the same songs to everybody."""

    def __init__(self, *songs):
        self.songs = np.array(songs, dtype=np.int32)

    def scores(self, state):
        return SimpleNamespace(top=lambda count: self.songs[:count])


def questions(answers, coming):
    state = SimpleNamespace(worked_out={})
    return Questions(
        cut="labels",
        until=None,
        songs=None,
        plays=None,
        states=[state] * len(answers),
        answers=np.array(answers, dtype=np.int32),
        coming=[None if songs is None else np.array(songs) for songs in coming],
        sizes=[0 if songs is None else len(songs) for songs in coming],
        listeners=np.arange(len(answers)) % 3,
    )


def test_next_songs_and_starts_have_figures_of_their_own():
    # The last one is a start; one of its four songs is not in the catalogue.
    asked = questions([7, 8, 9, -1], [None, None, None, [7, 8, 3, -1]])
    found = figures(Says(8, 7, 5), asked, count=2)
    np.testing.assert_allclose(found[0], [1 / np.log2(3), 1, 0, np.nan])
    np.testing.assert_allclose(found[1], [1, 1, 0, np.nan])
    np.testing.assert_allclose(found[2], [np.nan, np.nan, np.nan, 0.5])


def test_a_search_begins_with_the_default_and_finds_what_is_better():
    # The nearer the decay is to a half, the more answers come first.
    def measure(section):
        good = int(10 * (1 - abs(section.seed_decay - 0.5)))
        asked = questions([1] * 10, [None] * 10)
        rows = [figures(Says(1 if n < good else 2), asked, 1)[:, n] for n in range(10)]
        return np.array(rows).T

    far = VECTORS.model_copy(update={"seed_decay": 1.0})
    found = search(measure, far, trials=12, seed=1)
    assert len(found) == 12
    assert sum(section == far for _, section in found) == 1
    assert [worth for worth, _ in found] == sorted((w for w, _ in found), reverse=True)
    assert abs(found[0][1].seed_decay - 0.5) < abs(far.seed_decay - 0.5)
    assert found[0][0] > 1


def test_nothing_is_compared_with_nothing():
    asked = questions([1, 2], [None] * 2)
    with pytest.raises(ValueError, match="no answer is among the candidates"):
        search(lambda _: figures(Says(), asked, 0), VECTORS, trials=2, seed=1)


def test_sizes_stay_as_they_are():
    trial = optuna.create_study().ask()
    tried = suggest(trial, VECTORS)
    assert tried != VECTORS
    for name in ("enabled", "candidates", "factors"):
        assert getattr(tried, name) == getattr(VECTORS, name)


def test_what_a_setting_brings_is_paired_by_query():
    asked = questions([1, 2, 3, 4, 5, 6], [None] * 6)
    results = {0.5: Says(9), 0.6: Says(1, 2, 3, 4, 5, 6)}
    tried = [VECTORS.model_copy(update={"seed_decay": decay}) for decay in results]
    by_name = dict(zip(("default", "other"), tried, strict=True))
    rows = judged(lambda one: figures(results[one.seed_decay], asked, 6), by_name, asked, PARAMS)
    assert rows["default"]["recall"] == {"value": 0, "brings": 0, "low": 0, "high": 0}
    assert rows["other"]["recall"] == {"value": 1, "brings": 1, "low": 1, "high": 1}
    # There is no start among the queries.
    assert "session_recall_20" not in rows["other"]


def test_only_one_generator_is_fitted_and_what_it_reads():
    def on(name):
        alone = only(name, PARAMS.generators)
        return {other for other in FITTED if getattr(alone, other).enabled}

    assert on("vectors") == {"vectors"}
    assert on("continuations") == {"sessions"}
    assert on("repeats") == set()


@pytest.mark.slow
def test_what_is_searched_is_what_the_pipeline_fits(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGUE_DATA", str(tmp_path))
    folder = fit(tmp_path, [*PAST, *LATER])
    # The pipeline keeps each cut's in a folder of its own.
    (folder / "labels").symlink_to(folder)
    asked = read_questions(tmp_path, PHASES, "labels", 100, PARAMS)
    assert {songs is None for songs in asked.coming} == {True, False}
    theirs = load_retrieval(folder).generators
    every = np.arange(len(asked.songs), dtype=np.int32)
    for name in ("listen", "transitions", "vectors", "sessions", "continuations", "repeats"):
        section = PARAMS.signals.get(name) or getattr(PARAMS.generators, name)
        ours = fitted(name, section, PARAMS, tmp_path / "lake", asked)
        for state in asked.states:
            state.worked_out.clear()
            expected = theirs[name].scores(state).of(every)
            state.worked_out.clear()
            np.testing.assert_allclose(ours.scores(state).of(every), expected, rtol=1e-5)
