import math

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix
from scipy.sparse import random as sparse_random

from features.params import Ease, Links, Transitions, Vectors, load_params
from features.snapshots import write_snapshots
from serving.bundle import _load_dayparts, _load_tensor, load_factors
from serving.fold_in import fold_in
from tests.features import small
from tests.training import tiny
from tests.training.tiny import DAY, MINUTE, START, TICK
from training.generators import (
    song_rows,
    trending,
    with_rights,
    write_factors,
    write_generators,
    write_sessions,
)
from training.item_links import (
    ease,
    keep_best,
    listeners,
    nearest,
    shortened,
    together,
    transitions,
)
from training.phases import LeakError
from training.plays import read_plays, recency, session_songs
from training.song_vectors import positive_pmi, song_vectors

N = 9
SONGS = small.songs(*({"song_id": f"s{i}"} for i in range(3)))
LIMITS = {"half_life_days": 10.0, "neighbours": 3, "seeds": 1, "seed_decay": 1.0, "candidates": 1}
PARAMS = Transitions(**LIMITS, max_gap=3, gap_decay=0.5)


def random_sessions(seed):
    """Return sessions of [(age, song)], older first, songs repeating within them."""
    rng = np.random.default_rng(seed)
    ends = sorted(rng.uniform(0, 40, 25), reverse=True)
    return [
        [(end + 0.01 * back, int(rng.integers(N - 1))) for back in range(rng.integers(6), -1, -1)]
        for end in ends
    ]


def weight(age, half_life=10.0):
    return 0.5 ** (age / half_life)


def strongest(row, count):
    """Return a row's largest positive entries; ties go to the lower song."""
    order = sorted((song for song in row if row[song] > 0), key=lambda song: (-row[song], song))
    return {song: row[song] for song in order[:count]}


def rows_of(matrix):
    assert isinstance(matrix, csr_matrix)
    spans = zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True)
    return [dict(zip(matrix.indices[a:b], matrix.data[a:b], strict=True)) for a, b in spans]


def assert_rows(matrix, expected):
    for got, wanted in zip(rows_of(matrix), expected, strict=True):
        assert set(got) == set(wanted)
        assert got == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_transitions_equal_a_loop(seed):
    sessions = random_sessions(seed)
    total, own = [{} for _ in range(N)], [0.0] * N
    for session in sessions:
        for here, (age, song) in enumerate(session):
            own[song] += weight(age)
            for gap, (later, follower) in enumerate(session[here + 1 : here + 4], 1):
                row = total[song]
                row[follower] = row.get(follower, 0) + weight(later) * 0.5 ** (gap - 1)
    shares = [
        {song: value / max(own[i], 1) for song, value in row.items()} for i, row in enumerate(total)
    ]
    found = transitions(tiny.plays(sessions), START, PARAMS, N)
    assert_rows(found, [strongest(row, 3) for row in shares])


def test_a_follower_by_hand():
    # Heard at `until`: 0 -> 1 -> 2, and 1 alone; nothing follows across sessions.
    found = transitions(tiny.plays([[(0, 0), (0, 1), (0, 2)], [(0, 1)]]), START, PARAMS, 4)
    assert rows_of(found) == [{1: 1.0, 2: 0.5}, {2: 0.5}, {}, {}]


@pytest.mark.parametrize("seed", range(4))
def test_together_equals_a_loop(seed):
    sessions = random_sessions(seed)
    common = np.zeros((N, N))
    for session in sessions:
        songs = {song for _, song in session}
        each = weight(min(age for age, _ in session)) / len(songs)
        for one in songs:
            for other in songs:
                common[one, other] += each
    norm = np.sqrt(np.maximum(common.diagonal(), 1e-9))
    cosine = common / np.outer(norm, norm) * (1 - np.eye(N))
    found = together(tiny.plays(sessions), START, PARAMS, N)
    assert_rows(found, [strongest(dict(enumerate(row)), 3) for row in cosine])


@pytest.mark.parametrize("seed", range(4))
def test_listeners_equals_a_loop(seed):
    sessions = random_sessions(seed)
    heard = np.zeros((2, N))
    for code, session in enumerate(sessions):
        for age, song in session:
            heard[code % 2, song] += weight(age)
    heard = np.minimum(heard, 1)
    scaled = heard / np.sqrt(heard.sum(axis=1, keepdims=True))
    common = scaled.T @ scaled
    norm = np.sqrt(np.maximum(common.diagonal(), 1e-9))
    between = common / np.outer(norm, norm) * (1 - np.eye(N))
    found = listeners(tiny.plays(sessions), START, Links(**LIMITS), N)
    assert_rows(found, [strongest(dict(enumerate(row)), 3) for row in between])


@pytest.mark.parametrize("pairs", [1, 20, 10**9])
def test_nearest_is_the_same_in_blocks_of_any_size(pairs, monkeypatch):
    rows = sparse_random(40, N, 0.4, "csr", np.float32, 5)
    dense = rows.toarray()
    common = dense.T @ dense
    norm = np.sqrt(np.maximum(common.diagonal(), 1e-9))
    expected = common / np.outer(norm, norm) * (1 - np.eye(N))
    monkeypatch.setattr("training.item_links.PAIRS", pairs)
    assert_rows(nearest(rows, 4), [strongest(dict(enumerate(row)), 4) for row in expected])


def test_no_block_is_of_more_pairs_than_memory_should_hold(monkeypatch):
    rows = sparse_random(60, 50, 0.2, "csr", np.float32, 5)
    rows.data *= 0.01
    sizes = []

    def counted(matrix, per_row):
        sizes.append((matrix.shape[0], matrix.nnz))
        return keep_best(matrix, per_row)

    monkeypatch.setattr("training.item_links.PAIRS", 300)
    monkeypatch.setattr("training.item_links.keep_best", counted)
    nearest(rows, 4)
    assert len(sizes) > 5
    assert all(pairs <= 300 or songs == 1 for songs, pairs in sizes)


def test_a_song_that_nobody_heard_is_near_none():
    rows = csr_matrix(np.array([[1, 1, 0, 0], [1, 1, 0, 0]], dtype=np.float32))
    assert [list(row) for row in rows_of(nearest(rows, 4))] == [[1], [0], [], []]


def test_of_a_long_row_the_songs_that_weigh_most_make_pairs(monkeypatch):
    monkeypatch.setattr("training.item_links.LONGEST", 2)
    rows = csr_matrix(np.array([[0.5, 0.1, 0.9, 0.0], [0.0, 0.3, 0.0, 0.0]]))
    found = shortened(rows, np.ones(2))
    assert_rows(found, [{0: 0.5 / math.sqrt(1.4), 2: 0.9 / math.sqrt(1.4)}, {1: 0.3}])


@pytest.mark.parametrize("seed", range(4))
def test_ease_solves_its_least_squares_problem(seed):
    # Column j of B minimises ||x_j - X b||^2 + reg ||b||^2 with b_j = 0 (Steck, 2019, eq. 2).
    sessions = random_sessions(seed)
    weights = [math.sqrt(weight(min(age for age, _ in session))) for session in sessions]
    x = np.zeros((len(sessions), N))
    for row, session in enumerate(sessions):
        x[row, [song for _, song in session]] = weights[row]
    expected = np.zeros((N, N))
    for j in range(N):
        others = [i for i in range(N) if i != j]
        part = x[:, others]
        expected[others, j] = np.linalg.solve(part.T @ part + 2.0 * np.eye(N - 1), part.T @ x[:, j])
    params = Ease(**LIMITS | {"neighbours": N}, regularization=2.0, max_songs=N)
    found = ease(tiny.plays(sessions), START, params, N).toarray()
    np.testing.assert_allclose(found, np.where(expected > 1e-4, expected, 0), atol=2e-4)


def test_ease_leaves_rare_songs_out():
    plays = tiny.plays([[(0, 0), (0, 1)], [(0, 0), (0, 1)], [(0, 0), (0, 2)]])
    params = Ease(**LIMITS, regularization=1.0, max_songs=2)
    assert set(zip(*ease(plays, START, params, 4).nonzero(), strict=True)) == {(0, 1), (1, 0)}


VECTORS = {"half_life_days": 10.0, "seeds": 1, "seed_decay": 1.0, "candidates": 1}


def test_song_vectors_bring_songs_with_like_neighbours_together():
    # 0 and 1 never meet, but both are heard with 2 and 3; 4 to 7 are another world.
    sessions = [[(0, 0), (0, 2), (0, 3)], [(0, 1), (0, 2), (0, 3)]] * 3
    sessions += [[(0, 4), (0, 5), (0, 6)], [(0, 7), (0, 5), (0, 6)]] * 3
    params = Vectors(**VECTORS, factors=4, max_gap=2, gap_decay=1.0)
    vectors = song_vectors(tiny.plays(sessions), START, params, N)
    nearness = vectors @ vectors.T
    assert nearness[0, 1] > 0.9
    assert nearness[4, 7] > 0.9
    assert abs(nearness[:4, 4:8]).max() < 0.1
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1] * 8 + [0], atol=1e-5)
    np.testing.assert_array_equal(vectors, song_vectors(tiny.plays(sessions), START, params, N))


def test_positive_pmi_equals_its_formula():
    counts = np.array([[0, 6, 1], [6, 0, 1], [1, 1, 0]], dtype=np.float64)
    own, context = counts.sum(axis=1), counts.sum(axis=0) ** 0.75
    with np.errstate(divide="ignore"):
        value = np.log(counts / np.outer(own, context / context.sum()))
    np.testing.assert_allclose(
        positive_pmi(csr_matrix(counts)).toarray(), np.maximum(value, 0), rtol=1e-9
    )


@pytest.mark.parametrize("seed", range(4))
def test_trending_equals_a_loop(seed):
    sessions = random_sessions(seed)
    counts = [0.0] * N
    for age, song in (play for session in sessions for play in session):
        counts[song] += weight(age, 4.0)
    found = trending(tiny.plays(sessions), START, 4.0, N)
    np.testing.assert_allclose(found, np.array(counts) / sum(counts), rtol=1e-4)


def test_recency_halves_each_half_life():
    ts = tiny.plays([[(0, 0), (3, 0), (6, 0), (1.5, 0)]])["ts"]
    np.testing.assert_allclose(recency(ts, START, 3.0), [1, 0.5, 0.25, math.sqrt(0.5)])


@pytest.mark.parametrize("per_row", [1, 3, 100])
def test_keep_best_equals_sorting_each_row(per_row):
    rng = np.random.default_rng(per_row)
    # Few different values, so that ties are common.
    dense = rng.integers(0, 4, (12, 10)).astype(np.float32)
    dense[5] = 0
    found = keep_best(csr_matrix(dense), per_row)
    assert_rows(found, [strongest(dict(enumerate(row)), per_row) for row in dense])


def test_a_source_without_plays_has_empty_generators():
    none = tiny.plays([])
    assert transitions(none, START, PARAMS, N).nnz == 0
    assert together(none, START, PARAMS, N).nnz == 0
    assert listeners(none, START, Links(**LIMITS), N).nnz == 0
    assert ease(none, START, Ease(**LIMITS, regularization=1.0, max_songs=N), N).nnz == 0
    vectors = Vectors(**VECTORS, factors=4, max_gap=2, gap_decay=1.0)
    assert not song_vectors(none, START, vectors, N).any()
    assert session_songs(none, N).shape == (0, N)
    assert trending(none, START, 4.0, N).tolist() == [0] * N


def past():
    """Return events of four sessions before START, with a skip and an uncatalogued song."""
    listed = [("b", 9, "s1"), ("b", 8, "s0"), ("a", 3, "s2"), ("a", 2, "s0"), ("c", 5, "s2")]
    events = [
        tiny.event(number, START - age * MINUTE, session, song)
        for number, (session, age, song) in enumerate(listed)
    ]
    skip = tiny.event(10, START - MINUTE, "b", "s2", "skip")
    foreign = tiny.event(11, START - MINUTE, "d", "elsewhere")
    return [*events, skip, foreign]


def write(folder, events):
    tiny.write_lake(folder, events, [tiny.user("u0")], [tiny.song(f"s{i}") for i in range(3)])
    return read_plays(folder, START, np.array(["s0", "s1", "s2"]))


def test_plays_come_by_session_in_the_order_of_their_last_play(tmp_path):
    found = write(tmp_path, past())
    # b ended first, then c, then a; the skip and the uncatalogued song are no plays.
    assert found["session_id"].tolist() == [0, 0, 1, 2, 2]
    assert found["song_id"].tolist() == [1, 0, 2, 2, 0]


def test_a_past_of_skips_alone_is_refused(tmp_path):
    skip = tiny.event(10, START - MINUTE, "b", "s2", "skip")
    with pytest.raises(ValueError, match=r"no play before 2024.*not skipped, of its 1 events"):
        write(tmp_path, [skip])


def test_events_at_or_after_the_end_change_no_generator(tmp_path):
    late = [
        tiny.event(100 + number, START + after, session, song)
        for number, (after, session, song) in enumerate(
            [(0 * TICK, "a", "s1"), (TICK, "c", "s0"), (5 * DAY, "z", "s1"), (5 * DAY, "b", "s2")]
        )
    ]
    for name, events in (("without", past()), ("with", past() + late)):
        found = write(tmp_path / name, events)
        write_generators(found, START, load_params(), SONGS, tmp_path / name)
    for name in ("transitions", "together", "sessions", "trending"):
        one, two = (np.load(tmp_path / which / f"{name}.npz") for which in ("without", "with"))
        with one, two:
            assert set(one) == set(two)
            for key in one:
                np.testing.assert_array_equal(one[key], two[key])


def test_time_is_fitted_and_served_where_it_is_enabled(tmp_path):
    found = write(tmp_path, past())
    plain = load_params()
    on = {
        name: getattr(plain.generators, name).model_copy(update={"enabled": True})
        for name in ("dayparts", "tensor")
    }
    params = plain.model_copy(update={"generators": plain.generators.model_copy(update=on)})
    write_generators(found, START, plain, SONGS, tmp_path)
    assert not list(tmp_path.glob("dayparts*")) + list(tmp_path.glob("tensor*"))
    write_generators(found, START, params, SONGS, tmp_path)
    served = _load_dayparts(tmp_path / "dayparts.npz")
    assert served.prior == params.generators.dayparts.prior
    np.testing.assert_allclose(served.base.sum(), 1, rtol=1e-5)
    tensor = _load_tensor(tmp_path / "tensor.npz")
    assert tensor.known.all()
    assert tensor.alpha == params.generators.tensor.alpha


def factors(path, seen_until, songs=("s2", "gone", "s0"), *, seen=True):
    np.savez(
        path,
        song_ids=np.array(songs, dtype=np.str_),
        item_factors=np.arange(2 * len(songs), dtype=np.float32).reshape(-1, 2),
        regularization=0.05,
        alpha=2.0,
        spread=1.5,
        seen_until=seen_until.isoformat(),
        seen=seen,
    )


def test_factors_that_saw_too_much_are_refused(tmp_path):
    factors(tmp_path / "in.npz", START + TICK)
    with pytest.raises(LeakError, match="Refit"):
        write_factors(tmp_path / "in.npz", tmp_path / "out.npz", np.array(["s0"]), START)
    assert not (tmp_path / "out.npz").exists()


def test_factors_are_laid_out_as_the_catalogue(tmp_path):
    factors(tmp_path / "in.npz", START)
    write_factors(tmp_path / "in.npz", tmp_path / "out.npz", np.array(["s0", "s1", "s2"]), START)
    with np.load(tmp_path / "out.npz") as out:
        assert out["known"].tolist() == [True, False, True]
        assert out["item_factors"].tolist() == [[4, 5], [0, 0], [0, 1]]
        assert out["spread"] == 1.5


def test_an_absent_signal_writes_nothing(tmp_path):
    factors(tmp_path / "in.npz", START, songs=(), seen=False)
    write_factors(tmp_path / "in.npz", tmp_path / "out.npz", np.array(["s0"]), START)
    assert not (tmp_path / "out.npz").exists()


def test_a_signal_that_only_other_cuts_have_knows_no_song(tmp_path):
    factors(tmp_path / "in.npz", START, songs=())
    write_factors(tmp_path / "in.npz", tmp_path / "out.npz", np.array(["s0", "s1"]), START)
    model = load_factors(tmp_path / "out.npz")
    assert model.item_factors.shape == (2, 2)
    assert not model.known.any()
    assert fold_in(model, np.array([0, 1]), np.ones(2, np.float32)) is None


def test_rights_are_added_where_the_source_has_them():
    rows = pd.DataFrame({"song_id": ["s0", "s1"], "plays": [3, 4]})
    songs = pd.DataFrame({"song_id": ["s1", "s0"], "explicit": None, "title": "t"})
    pd.testing.assert_frame_equal(with_rights(rows, songs), rows)
    songs["regions_available"] = [["Europe"], None]
    found = with_rights(rows, songs)
    assert list(found) == ["song_id", "plays", "regions_available"]
    assert found["regions_available"].tolist() == [None, ["Europe"]]


def test_past_sessions_keep_their_order_of_play_with_age_and_rarity(tmp_path):
    plays = tiny.plays([[(20.2, 1), (20.1, 0), (20, 1)], [(0.1, 2), (0, 0)]])
    params = load_params().generators.sessions.model_copy(update={"half_life_days": 10.0})
    write_sessions(plays, START, params, 4, tmp_path)
    with np.load(tmp_path / "sessions.npz") as found:
        assert found["indices"].tolist() == [1, 0, 1, 2, 0]
        assert found["indptr"].tolist() == [0, 3, 5]
        assert found["recency"].tolist() == pytest.approx([0.25, 1.0])
        rare, both = math.log1p(2), math.log1p(1)
        assert found["song_weight"].tolist() == pytest.approx([both, rare, rare, rare])


def test_songs_without_neighbours_have_no_vector(tmp_path):
    plays = tiny.plays([[(1, 0), (0, 1)], [(0, 2)]]).assign(daypart=0)
    write_generators(plays, START, load_params(), SONGS, tmp_path)
    with np.load(tmp_path / "vectors.npz") as found:
        assert found["known"].tolist() == [True, True, False]


def test_a_catalogue_knows_no_song_that_is_still_to_come(tmp_path, monkeypatch):
    later = tiny.song("s1") | {"released_ts": START + DAY}
    tiny.write_lake(
        tmp_path / "lake",
        [tiny.event(0, START - DAY, "x", "s0")],
        [tiny.user("u0")],
        [tiny.song("s0"), later],
    )
    monkeypatch.setenv("SEGUE_DATA", str(tmp_path))
    write_snapshots(
        tmp_path / "lake", tmp_path / "features", [START, START + 2 * DAY], load_params()
    )
    assert song_rows(tmp_path / "lake", START)["song_id"].tolist() == ["s0"]
    assert song_rows(tmp_path / "lake", START + 2 * DAY)["song_id"].tolist() == ["s0", "s1"]
