from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from benchmarks.ablation import (
    SHOWN,
    Asked,
    Trial,
    markdown,
    summary,
    trials,
    values_of,
    with_ease,
)
from benchmarks.ablation_rows import coming_recall, own_columns, ranks_in_pools, view, wide
from benchmarks.measure import made_whole
from features.mistakes import Mistake
from features.params import load_params
from features.query import Query
from serving.ranker import SESSION_LENGTH
from training.queries import Labelled
from training.rows import Rows, concatenate
from training.sessions import SKIP

NAMES = ("loops_score", "b_score", "loops_rank", "b_rank", "proposed_by", "age", "loop_count")
NAN = np.nan


def rows():
    """Return two queries: one's answer only `b` proposed, the other's both."""
    features = [
        [0.5, 0.1, 0, NAN, 1, 3, 7],
        [NAN, 0.9, NAN, 0, 1, 4, 8],
        [0.3, 0.2, 1, 1, 2, 5, 9],
        [0.4, 0.7, 0, 0, 2, 6, 7],
        [0.1, 0.6, NAN, 1, 1, 6, 7],
    ]
    answer = np.array([False, True, False, True, False])
    return Rows(
        features=np.array(features, dtype=np.float32),
        query=np.array([0, 0, 0, 2, 2], np.int32),
        answer=answer,
        later=~answer,
        in_pool=np.ones(5, np.bool_),
        outcome=np.zeros(5, np.int8),
        ts=np.zeros(5, "datetime64[us]"),
        listener=np.zeros(5, np.uint32),
    )


def test_a_view_is_what_the_others_alone_would_have_made():
    found, names = view(rows(), NAMES, {"loops"}, {"age"})
    assert names == ("loops_score", "loops_rank", "proposed_by", "loop_count")
    # The answer stays for its label, though nobody proposed it; b's negative is gone.
    assert found.query.tolist() == [0, 0, 0, 2]
    assert found.in_pool.tolist() == [True, False, True, True]
    assert found.features[:, 2].tolist() == [1, 0, 1, 1]
    assert rows().features[:, 4].tolist() == [1, 1, 2, 2, 1]


def test_a_view_of_everything_changes_nothing():
    found, names = view(rows(), NAMES, {"loops", "b"}, ())
    assert names == NAMES
    np.testing.assert_array_equal(found.features, rows().features)


def test_columns_of_a_generator():
    assert own_columns("loops", NAMES) == ["loops_score", "loops_rank", "loop_count"]
    assert own_columns("transitions", ("step_last", "age", "near_last")) == ["step_last"]
    assert own_columns("vectors", ("near_last", "vectors_rank", "age")) == [
        "near_last",
        "vectors_rank",
    ]


def test_ranks_of_answers():
    scores = np.array([0.5, 0.5, 0.9, 0.1, 0.2])
    # Second of two that tie comes after the first; query 1 has no rows at all.
    np.testing.assert_array_equal(ranks_in_pools(rows(), scores, 3), [3, NAN, 2])
    only_one, _ = view(rows(), NAMES, {"loops"}, ())
    np.testing.assert_array_equal(ranks_in_pools(only_one, np.arange(4.0), 3), [NAN, NAN, 1])


def labelled(answer, rest=(), outcome="neutral", place=0):
    return Labelled(
        query_id="q",
        user_id="u",
        query=Query(ts=datetime(2020, 1, 1, tzinfo=UTC)),
        place=place,
        answer=answer,
        outcome=outcome,
        rest=(answer, *rest),
        rest_outcomes=(outcome, *(SKIP if song == "s" else "full" for song in rest)),
    )


def test_recall_of_the_coming_session(monkeypatch):
    monkeypatch.setattr("benchmarks.ablation_rows.TOP", 1)
    scores = np.array([0.9, 0.5, 0.1, 0.9, 0.2])
    asked = replace(rows(), later=np.array([True, False, False, False, False]))
    # Of the first session's three songs (one of them twice, a skipped one not counted) the first
    # place holds one; the second query was asked of nobody's pool; the third's first song leads.
    queries = [labelled("b", ("a", "s", "a", "z")), labelled("x"), labelled("d", ("e",))]
    assert coming_recall(asked, scores, queries).tolist() == [1 / 3, 0, 1 / 2]
    # What nobody proposed cannot be found, and takes no place.
    without_one = replace(asked, in_pool=np.array([False, True, True, True, True]))
    assert coming_recall(without_one, scores, queries).tolist() == [1 / 3, 0, 1 / 2]
    without_two = replace(asked, in_pool=np.array([False, False, True, True, True]))
    assert coming_recall(without_two, scores, queries).tolist() == [0, 0, 1 / 2]


def many(count, start):
    """Return rows of queries with one song heard of four, which `a` scores best."""
    random = np.random.default_rng(count + start)
    heard = random.permuted(np.tile([True, False, False, False], (count, 1)), axis=1).ravel()
    features = np.column_stack(
        [heard + random.normal(0, 0.1, len(heard)), np.full(len(heard), 0.0 if start else 1.0)]
        + [np.zeros(len(heard))]
    ).astype(np.float32)
    return Rows(
        features=features,
        query=np.repeat(np.arange(count, dtype=np.int32), 4),
        answer=heard,
        later=np.zeros(len(heard), np.bool_),
        in_pool=np.ones(len(heard), np.bool_),
        outcome=np.zeros(len(heard), np.int8),
        ts=np.zeros(len(heard), "datetime64[us]"),
        listener=np.zeros(len(heard), np.uint32),
    )


def test_next_songs_liked_ones_and_starts_are_judged_by_themselves(monkeypatch):
    names = ("a_score", SESSION_LENGTH, "a_rank")
    follow = [labelled("x", outcome="liked" if i < 5 else "full", place=1) for i in range(20)]
    test = (Asked(follow, many(20, False)), Asked([labelled("x")] * 10, many(10, True)))
    labels = concatenate([(many(200, False), names), (many(200, True), names)])[0]
    params = load_params().ranker.model_copy(update={"rounds": 20, "min_data_in_leaf": 5})
    trial = Trial("base", "base", frozenset({"a"}), frozenset(), 1)
    found = dict(zip(SHOWN, values_of(trial, labels, test, names, params).T, strict=True))
    assert np.isfinite(found["ndcg_10"]).sum() == 20
    assert found["mrr_20"][:20].mean() > 0.9
    assert np.flatnonzero(np.isfinite(found["liked_hr_20"])).tolist() == [0, 1, 2, 3, 4]
    assert np.flatnonzero(np.isfinite(found["start_recall_20"])).tolist() == list(range(20, 30))
    assert found["start_recall_20"][20:].tolist() == [1] * 10
    # Without a forest of their own, starts have the order of next songs.
    monkeypatch.setattr("benchmarks.ablation.fit_starts", lambda *_: pytest.fail("fitted"))
    values = values_of(replace(trial, at_starts="ranker"), labels, test, names, params)
    assert values[20:, SHOWN.index("start_recall_20")].tolist() == [1] * 10


@pytest.mark.parametrize(("at_starts", "found"), [("ranker", 1), ("forest", 0), ("sum", 0)])
def test_starts_go_by_who_is_asked_to_order_them(monkeypatch, at_starts, found):
    """The ranker puts the song that was heard first; a forest that speaks louder puts it last."""
    names = ("a_score", SESSION_LENGTH, "a_rank")
    monkeypatch.setattr("benchmarks.ablation_rows.TOP", 1)
    louder = SimpleNamespace(predict=lambda features, raw_score: -100 * features[:, 0])
    monkeypatch.setattr("benchmarks.ablation.fit_starts", lambda *_: louder)
    test = (Asked([], many(0, False)), Asked([labelled("x")] * 10, many(10, True)))
    params = load_params().ranker.model_copy(update={"rounds": 20, "min_data_in_leaf": 5})
    trial = Trial("base", "base", frozenset({"a"}), frozenset(), 1, at_starts=at_starts)
    values = values_of(trial, many(200, True), test, names, params)
    assert values[:, SHOWN.index("start_recall_20")].tolist() == [found] * 10


def test_several_things_go_at_once_and_starts_stay_known(monkeypatch):
    groups = {
        "dayparts": ["d"],
        "pairs: session_state": [SESSION_LENGTH, "hour"],
        "pairs: x": ["y"],
    }
    monkeypatch.setattr("benchmarks.ablation.feature_groups", lambda _: groups)
    retrieval = SimpleNamespace(names=("listen", "vectors", "loops", "rules", "blend"))
    found = trials(retrieval, load_params(), ["loops", "pairs: x"])
    by_kind = {(trial.kind, trial.name): trial for trial in found}
    both = by_kind["joint", "loops + pairs: x"]
    assert (both.generators, both.without, both.sign) == ({"listen", "vectors"}, {"d", "y"}, -1)
    # Starts are known by the length of their session: it never goes.
    assert by_kind["features", "pairs: session_state"].without == {"d", "hour"}
    assert by_kind["base", "base"].at_starts == "sum"
    assert by_kind["starts", "their forest"].at_starts == "ranker"
    assert by_kind["starts", "the ranker"].at_starts == "forest"
    with pytest.raises(Mistake, match="lops"):
        trials(retrieval, load_params(), ["lops"])
    # Another kind of factors takes the place of what is on, and brings no blend of its own.
    assert by_kind["factors", "no_recency"].generators == {"no_recency_listen", "vectors", "loops"}
    # What is off is none of what can go.
    with pytest.raises(Mistake, match="rules"):
        trials(retrieval, load_params(), ["rules"])


KINDS = ("base", "refit", "refit", "on")


def test_what_a_thing_brings_has_the_sign_of_with_less_without():
    def trial(name, kind, sign):
        return Trial(name, kind, frozenset(), frozenset(), sign)

    tried = [trial("base", "base", 1), trial("x", "on", -1), trial("y", "off", 1)]
    first, missed = np.ones((48, len(SHOWN))), np.zeros((48, len(SHOWN)))
    # Nobody knows of likes, and the last queries are starts.
    for values in (first, missed):
        values[:, SHOWN.index("liked_hr_20")] = NAN
        values[:40, SHOWN.index("start_recall_20")] = NAN
        values[40:, : len(SHOWN) - 1] = NAN
    found = {"basebase": first, "xon": missed, "yoff": first}
    table = summary(found, tried, np.arange(48) % 8, 50, 1)
    # Without x nothing is found: it brings everything. y brings nothing.
    assert table["ndcg_10"].tolist() == [0, 1, 0]
    assert table["start_recall_20"].tolist() == [0, 1, 0]
    assert table.loc[1, ["hr_20_low", "hr_20_high", "hr_20_value"]].tolist() == [1, 1, 0]
    text = markdown(table, {"x": 12.3}, "context")
    assert "| x | +1.0000 [+1.0000, +1.0000] |" in text
    assert text.index("### on") < text.index("| 12 |") < text.index("### off")
    assert "start_recall_20" in text
    assert "liked" not in text


def test_a_fit_of_the_base_is_set_against_the_others():
    tried = [Trial(str(n), kind, frozenset(), frozenset(), 1) for n, kind in enumerate(KINDS)]
    values = {"0base": 0.1, "1refit": 0.2, "2refit": 0.6, "3on": 0.3}
    found = {name: np.full((48, len(SHOWN)), value) for name, value in values.items()}
    table = summary(found, tried, np.arange(48) % 8, 50, 1)
    assert table["ndcg_10"].tolist() == pytest.approx([0.1 - 0.4, 0.2 - 0.35, 0.6 - 0.15, 0.0])


def test_what_was_not_made_to_its_end_is_made_again(tmp_path):
    folder = tmp_path / "labels"

    def killed():
        with made_whole(folder) as fresh:
            (fresh / "fit.json").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed()
    assert not folder.exists()
    with made_whole(folder) as fresh:
        assert not list(fresh.iterdir())
        (fresh / "whole").touch()
    assert [path.name for path in folder.iterdir()] == ["whole"]


def test_wide_switches_on_what_has_a_switch():
    params = load_params()
    found = wide(params).generators
    assert all(section.enabled for _, section in found if hasattr(section, "enabled"))
    assert not params.generators.tensor.enabled
    assert with_ease(params, 50).generators.ease.max_songs == 50
    assert with_ease(params, None) is params


@pytest.mark.parametrize("count", [3, 5])
def test_maps_are_drawn(tmp_path, count):
    drawing = pytest.importorskip("benchmarks.daypart_maps")
    cells = [
        {"map": f"part {m}", "weekday": f"{d} day", "hours": h, "value": m * d}
        for m in range(count)
        for d in range(7)
        for h in ("00-06", "06-12", "12-18", "18-24")
    ]
    drawing.draw(pd.DataFrame(cells), "title", tmp_path / "maps.png")
    assert (tmp_path / "maps.png").stat().st_size > 10_000
