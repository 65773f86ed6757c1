"""A search finds what is better, counts what is done, and does not see the main test phase."""

from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from benchmarks import search_rows
from benchmarks.search import best, search, table
from benchmarks.search_bench import (
    Bench,
    Setting,
    drawn,
    fit,
    judged,
    read_bench,
    relative,
)
from benchmarks.search_rows import begin, stages
from features.mistakes import Mistake
from features.params import load_params
from tests.training.test_dataset_and_ranker import made_rows
from training.phases import read_phases, split
from training.ranker import fit_ranker
from training.rows import write_rows

NAMES = ("signal", "noise", "prefix_length")
AFTER = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(microseconds=1000)
QUICK = Setting(trees=10, min_data_in_leaf=10, feature_fraction=1.0)
PARAMS = load_params()


def rows(seed, queries=120):
    """Return made rows, a third of them of queries that are session starts."""
    made = made_rows(seed, queries)
    features = made.features.copy()
    features[:, 2] = made.query % 3
    return replace(made, features=features)


@pytest.fixture
def bench():
    wrong = rows(2)
    least = wrong.features[:, 0].copy()
    wrong.features[:, 0] = -least
    return Bench({0.1: [rows(1)], 0.2: [wrong]}, rows(3), NAMES, PARAMS)


def test_a_part_has_the_heard_songs_and_no_more_than_so_many_others():
    whole = rows(1)
    part = drawn(whole, 50, 3, seed=1)
    chosen = np.unique(part.query)
    assert len(chosen) == 50
    for query in chosen:
        mine, all_of_it = part.query == query, whole.query == query
        assert part.answer[mine].sum() == whole.answer[all_of_it].sum()
        others = int((~whole.answer[all_of_it]).sum())
        assert (~part.answer[mine]).sum() == min(others, 3)
    assert not np.array_equal(chosen, np.unique(drawn(whole, 50, 3, seed=2).query))
    everything = drawn(whole, 1000, 1000, seed=1)
    np.testing.assert_array_equal(everything.features, whole.features)


def test_a_window_more_is_learnt_from_only_where_it_is_asked_for(bench):
    later, wrong = bench.labels[0.1][0], bench.labels[0.2][0]
    misled = replace(bench, labels={0.1: [later, wrong]})
    one = replace(QUICK, windows=1)
    np.testing.assert_array_equal(misled.scores(one, 1), bench.scores(QUICK, 1))
    assert relative(misled.values(QUICK, (1,)), bench.values(QUICK, (1,))) < 0.95
    helped = replace(bench, labels={0.1: [later, rows(4)]})
    assert not np.array_equal(helped.scores(QUICK, 1), bench.scores(QUICK, 1))


def test_the_default_is_that_of_the_parameters():
    params = PARAMS.ranker.model_copy(update={"rounds": 77, "negatives": 5, "max_queries": 9})
    found = Setting.of(PARAMS.model_copy(update={"ranker": params}))
    assert (found.trees, found.negatives, found.queries, found.members) == (77, 5, 9, 1)
    assert found.share == PARAMS.phases.labels_share


def test_the_default_is_fitted_as_training_fits_it(bench):
    ranker = PARAMS.ranker.model_copy(update={"rounds": 20, "min_data_in_leaf": 10})
    default = Setting.of(PARAMS.model_copy(update={"ranker": ranker}))
    (labels,), pools = bench.labels[0.1], bench.pools
    mine = fit(labels, NAMES, default, ranker, ranker.seed).predict(pools.features)
    theirs = fit_ranker(labels, NAMES, ranker).predict(pools.features)
    np.testing.assert_array_equal(mine, theirs)


def test_only_next_songs_are_asked_for(bench):
    assert not (bench.asked % 3 == 0).any()
    assert len(bench.asked) == len(bench.listeners) == 80
    np.testing.assert_array_equal(
        bench.listeners, np.unique(bench.asked % 40, return_inverse=True)[1]
    )


def test_labels_that_mislead_are_worth_less_and_members_are_asked_together(bench):
    seeds = (1,)
    good = bench.values(QUICK, seeds)
    assert good.shape == (3, 80)
    assert relative(bench.values(replace(QUICK, share=0.2), seeds), good) < 0.9
    pair = replace(QUICK, members=2)
    both = bench.scores(pair, 10) + bench.scores(pair, 11)
    first = bench.scores(pair, 10)
    assert not np.allclose(both, 2 * first)
    assert relative(bench.values(pair, seeds), good) == pytest.approx(1, abs=0.2)
    bounded = bench.values(replace(QUICK, objective="rank_xendcg"), seeds)
    assert relative(bounded, good) == pytest.approx(1, abs=0.2)


def test_a_search_begins_with_the_default_and_goes_on_where_it_stopped(bench, tmp_path):
    ranker = PARAMS.ranker.model_copy(update={"rounds": 120, "min_data_in_leaf": 50})
    bench = replace(bench, params=PARAMS.model_copy(update={"ranker": ranker}))
    default = Setting.of(bench.params)
    assert [t["value"] for t in search(bench, 1, 1.0, tmp_path)] == [1.0]
    found = search(bench, 2, 1.0, tmp_path)
    assert len(found) == 2
    assert asdict(default) in [trial["setting"] for trial in found]
    assert [t["value"] for t in found] == sorted((t["value"] for t in found), reverse=True)
    assert search(bench, 2, 1.0, tmp_path) == found
    tried = best(found, default, 1)
    assert list(tried) == ["default", "best 1"]
    assert tried["default"] == default != tried["best 1"]


def test_a_search_ends_when_its_time_is_over(bench, tmp_path):
    assert len(search(bench, 5, 0.0, tmp_path)) == 1


def test_what_a_setting_brings_is_paired_with_the_default(bench):
    found = judged(bench, {"default": QUICK, "wrong": replace(QUICK, share=0.2)}, (5,))
    assert found["default"]["ndcg_10"]["brings"] == found["default"]["ndcg_10"]["high"] == 0
    wrong = found["wrong"]["ndcg_10"]
    assert wrong["low"] < wrong["brings"] < wrong["high"] < 0
    assert f"| wrong | {wrong['value']:.4f}: {wrong['brings']:+.4f} [" in table(found)


def test_rows_of_the_main_test_phase_are_refused(bench, tmp_path):
    for share, (labels,) in bench.labels.items():
        write_rows(labels, NAMES, tmp_path / f"share-{share}" / "labels.parquet")
        write_rows(rows(4), NAMES, tmp_path / f"share-{share}" / "earlier.parquet")
    write_rows(bench.pools, NAMES, tmp_path / "share-0.1" / "test.parquet")
    (tmp_path / "share-0.3.part").mkdir()
    read = read_bench(tmp_path, AFTER)
    assert sorted(read.labels) == [0.1, 0.2]
    np.testing.assert_array_equal(read.asked, bench.asked)
    later, earlier = read.labels[0.1]
    np.testing.assert_array_equal(later.features, rows(1).features)
    np.testing.assert_array_equal(earlier.features, rows(4).features)
    with pytest.raises(ValueError, match="may not be chosen"):
        read_bench(tmp_path, AFTER - timedelta(microseconds=950))
    with pytest.raises(Mistake, match="holds no rows"):
        read_bench(tmp_path / "nope", AFTER)
    write_rows(rows(4), ("a", "b", "c"), tmp_path / "share-0.2" / "labels.parquet")
    with pytest.raises(ValueError, match="other features"):
        read_bench(tmp_path, AFTER)


def test_every_stage_writes_into_the_shares_own_folder(tmp_path):
    for stage in stages(tmp_path / "lake", tmp_path / "share", "labels"):
        assert stage[stage.index("--out") + 1].startswith(str(tmp_path / "share"))
        assert stage[stage.index("--cut") + 1] == "labels"


def test_a_killed_snapshot_is_taken_again(tmp_path, monkeypatch):
    phases = split(AFTER, AFTER + timedelta(days=100), PARAMS.phases)
    ran = []

    def killed(stage, folder):
        ran.append(stage)
        (folder / "features").mkdir()
        if len(ran) == 1:
            raise RuntimeError("killed")

    monkeypatch.setattr(search_rows, "run", killed)
    with pytest.raises(RuntimeError, match="killed"):
        begin(tmp_path / "lake", phases, tmp_path / "share-0.1")
    for _ in range(2):
        begin(tmp_path / "lake", phases, tmp_path / "share-0.1")
    assert len(ran) == 2
    assert read_phases(tmp_path / "share-0.1" / "phases.json") == phases
    assert (tmp_path / "share-0.1" / "features").is_dir()
