"""What is fitted for a cut by the stages as they run knows nothing of later times."""

import json
import os
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest

from benchmarks.ablation_rows import wide
from features.columns import SongRow
from features.params import SIGNALS, load_params
from features.snapshots import write_snapshots
from serving.bundle import load_retrieval
from tests.training import tiny
from tests.training.tiny import DAY, MINUTE, START, TICK
from training import dataset, factors, generators, report
from training.phases import LeakError, Phase, Phases, write_phases

CUT = "labels"
GAP = 30 * MINUTE
PHASES = Phases(
    history=Phase(START, START + 10 * DAY - GAP),
    earlier=Phase(START + 10 * DAY, START + 15 * DAY - GAP),
    labels=Phase(START + 15 * DAY, START + 20 * DAY - GAP),
    test=Phase(START + 20 * DAY, START + 25 * DAY),
    as_of=START + 25 * DAY,
)
SONGS = [f"s{number}" for number in range(8)]
FITTED = (
    "transitions", "rules", "together", "listeners", "ease", "vectors", "sessions", "dayparts",
    "tensor",
)  # fmt: skip


def sessions(first, days, seed):
    """Return three sessions a day of four listenings, some liked, added or skipped."""
    random = np.random.default_rng(seed)
    found = []
    for start in (first + day * DAY + hour * 60 * MINUTE for day in days for hour in (1, 9, 17)):
        user = f"u{random.integers(3)}"
        for place, song in enumerate(random.permutation(SONGS)[:4]):
            at, session = start + 4 * place * MINUTE, f"{start:%d-%H}"
            heard = {"user": user, "played_ms": int(random.integers(200_000))}
            skip = random.random() < 0.3
            found.append((at, session, song, "skip" if skip else "play", heard))
            for action in ("like", "playlist_add"):
                if random.random() < 0.3:
                    found.append((at + TICK, session, song, action, {"user": user}))
    return found


PAST = sessions(START, range(15), 1)
IN_THE_GAP = [(PHASES.labels.start - 10 * MINUTE, "gap", "s0", "play", {"played_ms": 100_000})]
LATER = sessions(PHASES.labels.start, range(10), 2)
# They happened before the cut's models are fitted, and nobody could know that then.
LATE = [
    (at, f"late {session}", song, action, more | {"received_ts": PHASES.labels.start})
    for at, session, song, action, more in sessions(START, range(0, 15, 2), 3)
]


def fit(folder, happened):
    """Run the stages of a cut on a lake of these events, and return what they wrote."""
    events = [
        tiny.event(number, *rest, **more)
        for number, (*rest, more) in enumerate(sorted_by(happened))
    ]
    people = [tiny.user(f"u{number}") for number in range(3)]
    tiny.write_lake(folder / "lake", events, people, [tiny.song(song) for song in SONGS])
    write_phases(PHASES, folder / "phases.json")
    moments = [PHASES.labels.start, PHASES.as_of]
    write_snapshots(folder / "lake", folder / "features", moments, load_params())
    at = ["--cut", CUT, "--lake", f"{folder}/lake", "--phases", f"{folder}/phases.json"]
    for signal in SIGNALS:
        run(factors, "--signal", signal, *at, "--out", f"{folder}/factors")
    # What is off by default, too.
    with mock.patch.object(generators, "load_params", return_value=wide(load_params())):
        run(generators, *at, "--factors", f"{folder}/factors", "--out", f"{folder}/generators")
    return folder / "generators"


def sorted_by(happened):
    return sorted(happened, key=lambda one: one[0])


def run(module, *words):
    with mock.patch("sys.argv", ["stage", *map(str, words)]):
        module.main()


@pytest.fixture(scope="module")
def fits(tmp_path_factory):
    """Return what a cut's stages wrote of the past, with its gap, and with all that came later."""
    lakes = {"past": PAST, "gap": PAST + IN_THE_GAP, "later": PAST + IN_THE_GAP + LATER + LATE}
    found = {}
    for name, happened in lakes.items():
        folder = tmp_path_factory.mktemp(name)
        with mock.patch.dict(os.environ, {"SEGUE_DATA": str(folder)}):
            found[name] = fit(folder, happened)
    return found


def contents(folder: Path, names=None):
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return {name: data for name, data in files.items() if names is None or name in names}


@pytest.mark.slow
def test_nothing_that_comes_later_changes_what_a_cut_has(fits):
    assert contents(fits["later"]) == contents(fits["gap"])


@pytest.mark.slow
def test_what_is_fitted_knows_nothing_of_the_gap_either(fits):
    names = [f"{name}.npz" for name in FITTED] + [f"factors_{signal}.npz" for signal in SIGNALS]
    found = contents(fits["gap"], names)
    assert found.keys() == set(names)
    assert found == contents(fits["past"], names)


@pytest.mark.slow
def test_songs_are_as_of_the_first_moment_of_the_phase(fits):
    plays = [load_retrieval(fits[name]).songs.numbers[SongRow.PLAYS] for name in ("past", "gap")]
    assert (plays[1] - plays[0]).tolist() == [1, *[0] * 7]


@pytest.fixture
def saw_too_much(tmp_path):
    """Return a folder of generators that saw the start of the labels, and its phases."""
    write_phases(PHASES, tmp_path / "phases.json")
    fit = {"seen_until": (PHASES.labels.start + TICK).isoformat()}
    (tmp_path / "fit.json").write_text(json.dumps(fit), encoding="utf-8")
    return tmp_path


def test_rows_are_refused_of_generators_that_saw_their_phase(saw_too_much):
    at = ["--cut", CUT, "--lake", saw_too_much, "--phases", saw_too_much / "phases.json"]
    with pytest.raises(LeakError, match="Refit"):
        run(dataset, *at, "--generators", saw_too_much, "--out", saw_too_much / "rows.parquet")


def test_a_bundle_that_saw_the_test_phase_is_not_evaluated(saw_too_much, monkeypatch):
    seen = SimpleNamespace(manifest={"seen_until": PHASES.test.start.isoformat()})
    monkeypatch.setattr(report, "Recommender", SimpleNamespace(load=lambda _: seen))
    with pytest.raises(LeakError, match="Refit"):
        run(report, "--phases", saw_too_much / "phases.json", "--lake", saw_too_much)


class Asked(Exception):  # noqa: N818 - no error: it ends the command where it begins to evaluate
    """The report has read what it evaluates with."""


@pytest.fixture
def lake(tmp_path):
    """Return a lake of two songs: one is heard before the test cut's fit ends, one from then on."""
    until = PHASES.fit_until("test")
    events = [
        tiny.event(0, until - TICK, "a", "s0"),
        tiny.event(1, until, "b", "s1"),
        tiny.event(2, PHASES.test.start, "c", "s1"),
    ]
    tiny.write_lake(tmp_path, events, [tiny.user("u0")], [tiny.song("s0"), tiny.song("s1")])
    write_phases(PHASES, tmp_path / "phases.json")
    return tmp_path


def test_the_report_tells_what_was_heard_before_the_fit(lake, monkeypatch):
    seen = {"seen_until": PHASES.fit_until("test").isoformat()}
    bundle = SimpleNamespace(manifest=seen, history_songs=8)
    monkeypatch.setattr(report, "Recommender", SimpleNamespace(load=lambda _: bundle))
    monkeypatch.setattr(report, "phase_queries", lambda *_: [])

    def evaluate(_recommender, _queries, heard, _how):
        raise Asked(heard["song_id"].tolist())

    monkeypatch.setattr(report, "evaluate", evaluate)
    with pytest.raises(Asked) as asked:
        run(report, "--phases", lake / "phases.json", "--lake", lake)
    assert asked.value.args[0] == ["s0"]


def test_daypart_maps_are_of_the_plays_before_the_fit(lake):
    maps = report.daypart_maps(lake, PHASES, load_params().generators.dayparts)
    share = maps[maps["map"] == "all plays, %"]["value"]
    # One play, in one daypart.
    assert sorted(share) == [0.0] * 27 + [100.0]
