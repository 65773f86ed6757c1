import json
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace

import pytest

from features.lake import LATE
from features.mistakes import Mistake
from features.params import PhaseShares
from tests.training import tiny
from training import phases as module
from training.phases import (
    LeakError,
    Phase,
    listening_counts,
    read_phases,
    refuse_leak,
    refuse_leaky,
    split,
    write_phases,
)

FIRST = datetime(2024, 1, 1, tzinfo=UTC)
DAY, HOUR, TICK = timedelta(days=1), timedelta(hours=1), timedelta(microseconds=1)
MINUTE = timedelta(minutes=1)
GAP = timedelta(minutes=30)
SHARES = PhaseShares(labels_share=0.1, test_share=0.2, gap_minutes=30, as_of=None)
PHASES = split(FIRST, FIRST + 100 * DAY, SHARES)


def test_a_hundred_days_are_cut_as_worked_by_hand():
    assert PHASES.history == Phase(FIRST, FIRST + 60 * DAY - GAP)
    assert PHASES.earlier == Phase(FIRST + 60 * DAY, FIRST + 70 * DAY - GAP)
    assert PHASES.labels == Phase(FIRST + 70 * DAY, FIRST + 80 * DAY - GAP)
    assert PHASES.test == Phase(FIRST + 80 * DAY, FIRST + 100 * DAY)
    assert PHASES.as_of == FIRST + 100 * DAY


def test_phases_leave_the_gap_between_them():
    gap = timedelta(minutes=90)
    cut = split(FIRST, FIRST + 100 * DAY, SHARES.model_copy(update={"gap_minutes": 90}))
    assert cut.gap == cut.earlier.start - cut.history.end == gap
    assert cut.labels.start - cut.earlier.end == gap
    assert cut.test.start - cut.labels.end == gap
    assert cut.test.end == cut.as_of


def test_starts_are_rounded_to_whole_hours_before_the_end():
    # 0.2 of 33 hours is 6.6, 0.1 of it 3.3.
    cut = split(FIRST, FIRST + 33 * HOUR, SHARES)
    assert cut.test.start == cut.as_of - 7 * HOUR
    assert cut.labels.start == cut.as_of - 10 * HOUR
    assert cut.earlier.start == cut.as_of - 13 * HOUR


@pytest.mark.parametrize(("hours", "name"), [(1, "earlier"), (4, "earlier"), (2, "history")])
def test_an_empty_phase_is_refused_by_name(hours, name):
    shares = {"labels_share": 0.5, "test_share": 0.4} if name == "history" else {}
    with pytest.raises(ValueError, match=f"The {name} phase .* is empty"):
        split(FIRST, FIRST + hours * HOUR, SHARES.model_copy(update=shares))


def test_each_cut_sees_only_what_lies_before_its_queries():
    assert PHASES.fit_until("earlier") == PHASES.history.end
    assert PHASES.fit_until("labels") == PHASES.earlier.end
    assert PHASES.fit_until("test") == PHASES.labels.end
    assert PHASES.fit_until("serving") == PHASES.features_at("serving") == PHASES.as_of
    for cut in ("earlier", "labels", "test"):
        asked = PHASES.queries_of(cut)
        assert PHASES.features_at(cut) == asked.start
        assert PHASES.fit_until(cut) == asked.start - GAP
        refuse_leak("The fit", PHASES.fit_until(cut), asked, PHASES.gap)


def test_models_for_serving_may_not_be_tested():
    with pytest.raises(LeakError, match="serving"):
        PHASES.queries_of("serving")


def test_a_leak_of_one_microsecond_is_refused():
    last = PHASES.test.start - PHASES.gap
    refuse_leak("The ranker", last, PHASES.test, PHASES.gap)
    for seen in (last + TICK, PHASES.test.start, PHASES.test.end):
        with pytest.raises(LeakError, match="The ranker has seen events until"):
            refuse_leak("The ranker", seen, PHASES.test, PHASES.gap)


def test_generators_that_saw_the_gap_are_refused(tmp_path):
    for seen, stale in ((PHASES.labels.end, False), (PHASES.labels.end + TICK, True)):
        text = json.dumps({"seen_until": seen.isoformat()})
        (tmp_path / "fit.json").write_text(text, encoding="utf-8")
        if stale:
            with pytest.raises(LeakError, match="Refit"):
                refuse_leaky(tmp_path, PHASES, "test")
        else:
            refuse_leaky(tmp_path, PHASES, "test")
        # The same fit has seen both label windows.
        for cut in ("earlier", "labels"):
            with pytest.raises(LeakError):
                refuse_leaky(tmp_path, PHASES, cut)


def test_the_later_labels_fit_may_not_answer_the_earlier_labels(tmp_path):
    text = json.dumps({"seen_until": PHASES.fit_until("labels").isoformat()})
    (tmp_path / "fit.json").write_text(text, encoding="utf-8")
    refuse_leaky(tmp_path, PHASES, "labels")
    with pytest.raises(LeakError, match="Refit"):
        refuse_leaky(tmp_path, PHASES, "earlier")


def test_what_is_written_is_read(tmp_path):
    odd = split(FIRST + 7 * TICK, FIRST + 50 * DAY + TICK, SHARES)
    write_phases(odd, tmp_path / "deep" / "phases.json")
    assert read_phases(tmp_path / "deep" / "phases.json") == odd


def run(folder, monkeypatch, events):
    """Write the phases of a lake of (moment, session, action) and return their file."""
    listed = [
        tiny.event(number, ts, session, "s0", action)
        for number, (ts, session, action) in enumerate(events)
    ]
    tiny.write_lake(folder, listed, [tiny.user("u0")], [tiny.song("s0")])
    times = [ts for ts, _, _ in events]
    summary = {"first_ts": min(times).isoformat(), "last_known_ts": max(times).isoformat()}
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    out = folder / "phases.json"
    monkeypatch.setattr("sys.argv", ["phases", "--lake", str(folder), "--out", str(out)])
    module.main()
    return out


def daily(action="play", days=100):
    """Return two events a day in a session of its own."""
    moments = [FIRST + day * DAY + minute * MINUTE for day in range(days) for minute in (0, 5)]
    return [(ts, f"{ts:%m-%d}", action) for ts in moments]


def test_the_command_ends_just_after_the_last_event(tmp_path, monkeypatch):
    last = FIRST + 100 * DAY
    out = run(tmp_path, monkeypatch, [*daily(), (last, "z", "play")])
    assert read_phases(out).as_of == last + TICK


def test_listenings_are_counted_where_they_are_of_use(tmp_path, monkeypatch):
    events = daily()
    # A like, a skip in the history, and a session that runs into the labels.
    events += [(FIRST + HOUR, "01-01", "like"), (FIRST + 2 * HOUR, "01-01", "skip")]
    phases = read_phases(run(tmp_path, monkeypatch, events))
    across = [phases.earlier.start - HOUR, phases.labels.start - HOUR, phases.labels.start + TICK]
    events += [(ts, "across", "play") for ts in across]
    run(tmp_path, monkeypatch, events)
    expected = {
        "history": sum(ts < phases.history.end and what == "play" for ts, _, what in events),
        "earlier": sum(
            phases.earlier.start <= ts < phases.earlier.end and name != "across"
            for ts, name, _ in events
        ),
        "labels": sum(
            phases.labels.start <= ts < phases.labels.end and name != "across"
            for ts, name, _ in events
        ),
        "test": sum(phases.test.start <= ts for ts, _, _ in events),
    }
    assert listening_counts(tmp_path, phases) == expected


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (
            [(FIRST - 7300 * DAY, "old", "play"), *daily()],
            r"in history and earlier and labels.*: 1\n.*: 0\n.*: 0\n",
        ),
        (
            [*daily(), (FIRST + 7300 * DAY, "new", "play")],
            r"in earlier.*long before or after",
        ),
        (daily("like"), r"holds no `play` and no `skip`"),
        (daily("skip"), r"in history; each phase needs 10"),
    ],
)
def test_phases_without_listenings_are_refused_with_what_lies_where(
    tmp_path, monkeypatch, events, message
):
    with pytest.raises(Mistake, match=f"(?s){message}"):
        run(tmp_path, monkeypatch, events)
    assert not (tmp_path / "phases.json").exists()


def test_listenings_count_once_they_had_arrived(tmp_path, monkeypatch):
    run(tmp_path, monkeypatch, daily())
    phases = read_phases(tmp_path / "phases.json")
    received = {
        "in time": phases.history.end - TICK,
        "late": phases.history.end,
        "label": phases.test.start,
    }
    times = {
        "in time": phases.history.start,
        "late": phases.history.start,
        "label": phases.labels.start + MINUTE,
    }
    events = [
        tiny.event(number, times[name], name, "s0", received_ts=moment)
        for number, (name, moment) in enumerate(received.items())
    ]
    tiny.write_lake(tmp_path / "late", events, [tiny.user("u0")], [tiny.song("s0")])
    counts = dict.fromkeys(("history", "earlier", "labels", "test"), 0)
    assert listening_counts(tmp_path / "late", phases) == counts | {"history": 1}


def test_a_time_of_loading_is_suspected_where_nothing_had_arrived(tmp_path, monkeypatch):
    summary = '{"first_ts": "%s", "last_known_ts": "%s", "%s": 199}'
    loaded = FIRST + 300 * DAY
    events = [
        tiny.event(number, ts, session, "s0", action, received_ts=loaded)
        for number, (ts, session, action) in enumerate(daily())
    ]
    tiny.write_lake(tmp_path, events, [tiny.user("u0")], [tiny.song("s0")])
    first, last = events[0]["ts"].isoformat(), events[-1]["ts"].isoformat()
    (tmp_path / "summary.json").write_text(summary % (first, last, LATE), encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["phases", "--lake", str(tmp_path)])
    with pytest.raises(Mistake, match=r"nothing to learn from.*199 did so over.*`received_ts`"):
        module.main()


@pytest.mark.parametrize(
    ("as_of", "told"),
    [(FIRST + 1000 * DAY, "after the last event"), (FIRST, "not after the first event")],
)
def test_a_moment_beside_the_events_is_refused_with_a_sentence(tmp_path, monkeypatch, as_of, told):
    beside = SHARES.model_copy(update={"as_of": as_of})
    monkeypatch.setattr(module, "load_params", lambda: SimpleNamespace(phases=beside))
    with pytest.raises(Mistake, match=told):
        run(tmp_path, monkeypatch, daily())


def test_a_moment_of_another_zone_is_written_in_utc(tmp_path, monkeypatch):
    east = timezone(timedelta(hours=2))
    beside = SHARES.model_copy(update={"as_of": (FIRST + 90 * DAY).astimezone(east)})
    monkeypatch.setattr(module, "load_params", lambda: SimpleNamespace(phases=beside))
    text = run(tmp_path, monkeypatch, daily()).read_text(encoding="utf-8")
    assert "+02:00" not in text
    assert (FIRST + 90 * DAY).isoformat() in text
