import json
from argparse import Namespace
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.ablation import Asked
from benchmarks.peer_generators import checked_phases, given, split, trials
from benchmarks.peers.ranking import Tops
from features.mistakes import Mistake
from features.query import Query
from serving.scores import NO_SCORES
from tests.benchmarks.test_ablation import labelled, many


def query(number, place):
    return SimpleNamespace(
        query_id=f"q{number}", query=Query(ts=datetime(2020, 1, 1, tzinfo=UTC)), place=place
    )


def test_a_peer_says_to_each_query_what_it_answered(monkeypatch):
    tops = Tops(
        np.array([[2, 3, 0], [1, -1, -1]]), np.array([[9.0, 8.5, 8.0], [3.0, np.nan, np.nan]])
    )
    monkeypatch.setattr("benchmarks.peer_generators.read_tops", lambda *_: tops)
    cut = SimpleNamespace(query_ids={"test": ["q1", "q0"]}, song_ids=np.array(["a", "b", "c", "d"]))
    # Segue's catalogue has them in another order, one song more, and one less.
    songs = SimpleNamespace(
        indices=lambda ids: np.array([{"a": 3, "b": 0, "c": 1, "d": -1}[i] for i in ids])
    )
    asked = [query(0, 1), query(1, 0)]
    peer = given(None, "peer", "test", cut, asked, songs)
    first, second = (peer.scores(SimpleNamespace(query=item.query)) for item in asked)
    assert first.top(5).tolist() == [0]
    assert second.top(5).tolist() == [1, 3]
    np.testing.assert_array_equal(second.of(np.array([0, 1, 3])), [np.nan, 9, 8])
    assert peer.scores(SimpleNamespace(query=query(0, 1).query)) is NO_SCORES


def test_the_base_knows_no_peer():
    names = (
        "listen_score",
        "SASRec_score",
        "item_kNN_score",
        "listen_rank",
        "SASRec_rank",
        "item_kNN_rank",
    )
    base, again, first, second, both = trials(names, ["SASRec", "item_kNN"])
    assert base.generators == again.generators == {"listen"}
    assert (base.seed, again.seed) == (None, 1)
    assert first.generators == {"listen", "SASRec"}
    assert second.generators == {"listen", "item_kNN"}
    assert both.generators == {"listen", "SASRec", "item_kNN"}
    assert len(trials(names, ["SASRec"])) == 3


def test_next_songs_and_starts_keep_their_own_rows():
    queries = [labelled("x", place=number % 2) for number in range(6)]
    rows = many(6, start=True)
    follow, starts = split(Asked(queries, rows))
    assert [item.place for item in follow.queries] == [1, 1, 1]
    assert [item.place for item in starts.queries] == [0, 0, 0]
    for part, first in ((follow, 1), (starts, 0)):
        assert part.rows.query.tolist() == np.repeat([0, 1, 2], 4).tolist()
        expected = rows.features[np.isin(rows.query, [first, first + 2, first + 4])]
        np.testing.assert_array_equal(part.rows.features, expected)


@pytest.mark.parametrize(
    ("theirs", "until", "told"), [(1, 2, None), (1, 0, "--until"), (3, 5, "is of")]
)
def test_another_cut_and_later_weeks_are_refused(tmp_path, monkeypatch, theirs, until, told):
    def day(number):
        return datetime(2020, 1, 1 + number, tzinfo=UTC)

    monkeypatch.setattr(
        "benchmarks.peer_generators.read_phases",
        lambda _: SimpleNamespace(as_of=day(1), test=SimpleNamespace(end=day(1))),
    )
    manifest = tmp_path / "seen" / "manifest.json"
    manifest.parent.mkdir()
    manifest.write_text(json.dumps({"as_of": day(theirs).isoformat()}))
    arguments = Namespace(cut=tmp_path, data=tmp_path, until=day(until))
    if told is None:
        assert checked_phases(arguments).as_of == day(1)
    else:
        with pytest.raises(Mistake, match=told):
            checked_phases(arguments)
