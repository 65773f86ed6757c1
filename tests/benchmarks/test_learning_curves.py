from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from benchmarks.learning_curves import METRICS, commands, compared, last_labels, later_lake, since
from tests.training import tiny
from tests.training.test_dataset_and_ranker import NAMES, made_rows
from training.phases import Phase, Phases
from training.rows import read_rows, write_rows


def test_history_is_shortened_at_its_beginning():
    start = datetime(2024, 1, 1, tzinfo=UTC)
    days = [start + timedelta(days=day) for day in (0, 80, 81, 85, 86, 90, 91, 100)]
    phases = Phases(*(Phase(*days[i : i + 2]) for i in range(0, 8, 2)), days[7])
    assert since(phases, 0.25) == start + timedelta(days=60)
    assert since(phases, 1.0) == start


def test_a_later_lake_lacks_the_events_before_and_nothing_else(tmp_path):
    events = [
        tiny.event(number, tiny.START + number * tiny.DAY / 2, "s", "a") for number in range(6)
    ]
    tiny.write_lake(tmp_path / "lake", events, [tiny.user("u0")], [tiny.song("a")])
    later_lake(tmp_path / "lake", tmp_path / "later", tiny.START + tiny.DAY * 1.5)
    kept = sorted((tmp_path / "later").glob("events/*/*.parquet"))
    ids = [row for path in kept for row in pq.ParquetFile(path).read()["event_id"].to_pylist()]
    assert ids == ["e003", "e004", "e005"]
    before, after = ((tmp_path / name / "songs.parquet").read_bytes() for name in ("lake", "later"))
    assert before == after


def test_the_last_labels_are_those_nearest_to_the_test(tmp_path):
    write_rows(made_rows(1, 101), NAMES, tmp_path / "labels.parquet")
    part, _ = read_rows(last_labels(tmp_path / "labels.parquet", 0.25, tmp_path / "part.parquet"))
    # A query each microsecond: the last 25 and the one at the border.
    assert np.unique(part.query).tolist() == list(range(75, 101))


def test_points_are_compared_on_the_same_queries():
    ids = [f"q{number}" for number in range(40)]
    listeners = [f"u{number % 8}" for number in range(40)]
    whole = pd.DataFrame(dict.fromkeys(METRICS, 0.5), index=ids).assign(user_id=listeners)
    point = whole.assign(ndcg_10=0.4)[::-1]
    found = compared(point, whole)
    assert found["ndcg_10"] == pytest.approx(0.4)
    shown = [found[f"ndcg_10_{part}"] for part in ("lacks", "low", "high")]
    assert shown == pytest.approx([0.1] * 3)
    assert (found["hr_20"], found["hr_20_lacks"]) == (0.5, 0)


def test_every_stage_reads_and_writes_the_points_own_folder(tmp_path):
    for command in commands(tmp_path):
        for flag, value in zip(command[1::2], command[2::2], strict=True):
            assert flag in {"--cut", "--signal", "--workers"} or value.startswith(str(tmp_path))
