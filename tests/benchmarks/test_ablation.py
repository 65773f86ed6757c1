import numpy as np
import pandas as pd
import pytest

from benchmarks.ablation import Trial, markdown, summary, with_ease
from benchmarks.ablation_rows import answer_ranks, own_columns, view, wide
from benchmarks.measure import made_whole
from features.params import load_params
from training.rows import Rows

NAMES = ("a_score", "b_score", "a_rank", "b_rank", "proposed_by", "age", "a_from_1")
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
    found, names = view(rows(), NAMES, {"a"}, {"age"})
    assert names == ("a_score", "a_rank", "proposed_by", "a_from_1")
    # The answer stays for its label, though nobody proposed it; b's negative is gone.
    assert found.query.tolist() == [0, 0, 0, 2]
    assert found.in_pool.tolist() == [True, False, True, True]
    assert found.features[:, 2].tolist() == [1, 0, 1, 1]
    assert rows().features[:, 4].tolist() == [1, 1, 2, 2, 1]


def test_a_view_of_everything_changes_nothing():
    found, names = view(rows(), NAMES, {"a", "b"}, ())
    assert names == NAMES
    np.testing.assert_array_equal(found.features, rows().features)


def test_columns_of_a_generator():
    assert own_columns("a", NAMES) == ["a_score", "a_rank", "a_from_1"]
    assert own_columns("vectors", ("near_last", "vectors_rank", "age")) == [
        "near_last",
        "vectors_rank",
    ]


def test_ranks_of_answers():
    scores = np.array([0.5, 0.5, 0.9, 0.1, 0.2])
    # Second of two that tie comes after the first; query 1 has no rows at all.
    np.testing.assert_array_equal(answer_ranks(rows(), scores, 3), [3, NAN, 2])
    only_a, _ = view(rows(), NAMES, {"a"}, ())
    np.testing.assert_array_equal(answer_ranks(only_a, np.arange(4.0), 3), [NAN, NAN, 1])


def test_what_a_thing_brings_has_the_sign_of_with_less_without():
    def trial(name, kind, sign):
        return Trial(name, kind, frozenset(), frozenset(), sign)

    tried = [trial("base", "base", 1), trial("x", "on", -1), trial("y", "off", 1)]
    first, missed = np.ones(40), np.full(40, NAN)
    found = {"basebase": first, "xon": missed, "yoff": first}
    table = summary(found, tried, np.arange(40) % 8, 50, 1)
    # Without x nothing is found: it brings everything. y brings nothing.
    assert table["ndcg_10"].tolist() == [0, 1, 0]
    assert table.loc[1, ["hr_20_low", "hr_20_high", "hr_20_value"]].tolist() == [1, 1, 0]
    text = markdown(table, {"x": 12.3}, "context")
    assert "| x | +1.0000 [+1.0000, +1.0000] |" in text
    assert text.index("### on") < text.index("| 12 |") < text.index("### off")


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
