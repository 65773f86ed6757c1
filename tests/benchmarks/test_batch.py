import subprocess
import sys
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from benchmarks.batch import (
    answer_table,
    compare,
    part_of,
    proportional_bytes,
    query_frame,
    tree_memory,
    watched,
)
from features.query import Query, SessionEvent
from serving.batch import check_queries
from training.queries import Labelled


def labelled(name: str, place: int, answer: str, *events: SessionEvent) -> Labelled:
    query = Query(ts=datetime(2024, 1, 1, tzinfo=UTC), session=events)
    return Labelled(name, f"u-{name}", query, place, answer, "full", (answer,), ("full",))


QUERIES = [
    labelled("a", 0, "x"),
    labelled(
        "b",
        2,
        "y",
        SessionEvent("p", "play", 10),
        SessionEvent("p", "like"),
        SessionEvent("q", "skip"),
    ),
    labelled("c", 1, "z", SessionEvent("p")),
]


def test_the_frame_is_what_the_batch_reads_with_played_songs_only() -> None:
    frame = check_queries(query_frame(QUERIES))
    assert frame["query_id"].tolist() == ["a", "b", "c"]
    assert frame["user_id"].tolist() == ["u-a", "u-b", "u-c"]
    assert frame["session"].tolist() == [[], ["p", "q"], ["p"]]
    assert frame["ts"].tolist() == [pd.Timestamp("2024-01-01", tz="UTC")] * 3


def test_a_part_is_seeded_in_order_and_without_repeats() -> None:
    many = [labelled(f"{i:03d}", 0, "x") for i in range(100)]
    names = [one.query_id for one in part_of(many, 30, seed=1)]
    assert names == sorted(set(names))
    assert len(names) == 30
    assert names == [one.query_id for one in part_of(many, 30, seed=1)]
    assert names != [one.query_id for one in part_of(many, 30, seed=2)]
    assert part_of(many, 100, seed=1) == many


def test_figures_worked_out_by_hand() -> None:
    answers = pd.DataFrame(
        [("a", 1, "w"), ("a", 2, "x"), ("b", 1, "y"), ("c", 1, "y"), ("c", 2, "x")],
        columns=["query_id", "rank", "song_id"],
    )
    ours = answer_table(QUERIES, answers)
    np.testing.assert_array_equal(ours["rank"], [2.0, 1.0, np.nan])
    report = pd.DataFrame({"query_id": ["b", "c", "other"], "task": "left out"})
    report = report.drop(columns="task").assign(hr_20=[1.0, 1.0, 0.0], mrr_20=0.5, ndcg_10=0.25)
    found = compare(ours, report)
    assert set(found) == {"next song"}
    assert found["next song"]["queries"] == 2
    assert found["next song"]["hr_20"] == {"batch": 0.5, "report": 1.0}
    assert found["next song"]["mrr_20"] == {"batch": 0.5, "report": 0.5}


def test_memory_counts_the_processes_below_too() -> None:
    holder = "block = bytearray(b'x' * 100_000_000); print('held', flush=True); input()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {holder!r}])"
    words = [sys.executable, "-c", code]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        alone, whole = proportional_bytes(process.pid), tree_memory(process.pid)
        process.communicate(b"\n")
    assert 0 < alone < 50_000_000
    assert 100_000_000 < whole < 200_000_000
    assert tree_memory(process.pid) == 0


def test_a_command_is_measured_whole() -> None:
    found = watched([sys.executable, "-c", "block = bytearray(b'x' * 10_000_000)"])
    assert found["seconds"] > 0
    assert found["peak_mib"] >= 0


def test_a_command_that_fails_is_an_error() -> None:
    with pytest.raises(subprocess.CalledProcessError, match="exit status 3"):
        watched([sys.executable, "-c", "raise SystemExit(3)"])
