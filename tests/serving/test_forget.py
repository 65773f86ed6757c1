"""One listener is erased from the logs, SQLite's and PostgreSQL's, and from the online store."""

import shutil
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tqdm import tqdm

from features import store
from features.mistakes import Mistake
from serving import forget
from serving.event_log import EventLog
from tests.serving.test_event_log import rows
from tests.serving.test_exposure_log import write, written
from tests.serving.test_exposures import exposure

USER, OTHER = "user-1", "user-2"


@pytest.fixture
def world(
    database: str, store_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, Path]:
    """Return where the logs are that know two listeners, as the online store does."""
    shutil.copytree(store_data / "feast", tmp_path / "feast")
    exposures = tmp_path / "exposures"
    named = {"DATA": str(tmp_path), "EVENTS_URL": database, "EXPOSURES": str(exposures)}
    for name, value in named.items():
        monkeypatch.setenv(f"SEGUE_{name}", value)
    monkeypatch.setattr("serving.event_log.FORGET_ROWS", 3)
    with closing(EventLog.open(database)) as log:
        log.append([rows(0, 7, user_id=USER), rows(7, 12, user_id=OTHER)])
    users = [USER, OTHER, None, USER, USER, OTHER, USER]
    shown = [exposure(n, user_id=user) for n, user in enumerate(users)]
    write(exposures, shown[:2])
    write(exposures, shown[2:])
    return database, exposures


def known(world: tuple[str, Path], user: str | None) -> tuple[int, int, bool]:
    """Return how many events and exposures a listener has, and whether there is a row."""
    with closing(EventLog.open(world[0])) as log:
        mine = [one for one in written(world[1]) if one.user_id == user]
        is_there = user is not None and store.online_user_row(user)["plays"] is not None
        return len(log.recent(user)), len(mine), is_there


def test_nothing_of_the_listener_stays_and_all_of_others(
    world: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # As by TQDM_DISABLE: such a bar does not count.
    monkeypatch.setattr(forget, "tqdm", partial(tqdm, disable=True))
    assert known(world, USER) == (7, 4, True)
    others = [known(world, user) for user in (OTHER, None)]
    forget.main(["--user", USER])
    assert known(world, USER) == (0, 0, False)
    assert [known(world, user) for user in (OTHER, None)] == others == [(5, 2, True), (0, 1, False)]
    told = capsys.readouterr().out.splitlines()
    erased = ["erased 7 events", "erased 4 exposures", "erased the row in the online store"]
    assert told == [*erased, forget.REST]
    # Again, as after a run that was killed.
    forget.main(["--user", USER])
    assert "found no row" in capsys.readouterr().out


def test_exposures_that_are_off_are_said_to_be_left(
    world: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEGUE_EXPOSURES", "off")
    forget.main(["--user", USER])
    assert known(world, USER) == (0, 4, False)
    assert "no exposures were looked for" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EVENTS_URL", "postgresql://nobody@127.0.0.1:9/none"),
        ("ONLINE_URL", "redis://127.0.0.1:9/0"),
        ("DATA", "none"),
    ],
)
def test_nothing_is_erased_where_a_store_cannot_be_reached(
    world: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    with monkeypatch.context() as away:
        away.setenv(f"SEGUE_{name}", value)
        with pytest.raises(SystemExit, match="user-1 is not erased"):
            forget.main(["--user", USER])
    assert known(world, USER) == (7, 4, True)


def test_a_log_in_a_file_that_is_not_there_is_a_mistake(
    world: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, what in (("EXPOSURES", "exposure"), ("EVENTS_URL", "event")):
        with monkeypatch.context() as elsewhere:
            scheme = "sqlite:///" if what == "event" else ""
            elsewhere.setenv(f"SEGUE_{name}", f"{scheme}{tmp_path / 'none'}")
            with pytest.raises(Mistake, match=f"no {what} log"):
                forget.main(["--user", USER])
        assert known(world, USER) == (7, 4, True)


def test_what_is_refused_on_the_way_is_told(
    world: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(user_id: str) -> Any:
        raise OSError(f"Redis: no room for {user_id}")

    with monkeypatch.context() as broken:
        broken.setattr(forget, "forget_online_user", refused)
        with pytest.raises(SystemExit, match="not everywhere; run it again"):
            forget.main(["--user", USER])
    assert known(world, USER) == (0, 0, True)
    forget.main(["--user", USER])
    assert known(world, USER) == (0, 0, False)
