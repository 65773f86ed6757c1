"""Shipping under load at a smaller scale: a real server with two workers over the small bundle."""

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import faults, shipping
from benchmarks.shipping import MUST_BE_ZERO, Answers, run
from serving.manifest import BundleError
from tests.serving.conftest import bundle, store_data  # noqa: F401 - fixtures


@pytest.mark.slow
def test_swap_rollback_and_a_damaged_bundle_are_not_felt(
    bundle: Path,  # noqa: F811 - the fixtures above
    store_data: Path,  # noqa: F811
) -> None:
    # On a machine however busy: what counts is that no request fails.
    env = {"SEGUE_DATA": str(store_data), "SEGUE_DEADLINE_MS": "20000"}
    found = run(bundle, env, seconds=4)
    zero = (*MUST_BE_ZERO, "degraded")
    assert {name: found[name] for name in zero} == dict.fromkeys(zero, 0)
    assert found["answers_of_one"] > 0
    assert found["answers_of_two"] > 0


def test_what_goes_wrong_is_counted() -> None:
    answers = Answers()
    song = {"title": "Tune [one]"}
    good = {"model_version": "one", "degraded": [], "songs": [song], "_worker": "1"}
    answers.add(200, good)
    answers.add(200, good | {"songs": [song, {"title": "Tune [two]"}]})
    answers.add(200, good | {"degraded": ["deadline"]})
    answers.add(500, {})
    counts = answers.counts
    assert (counts["failed"], counts["mixed"], counts["degraded"], counts["asked"]) == (1, 1, 1, 4)
    assert not answers.all_by("one")
    answers.add(200, good | {"_worker": "2"})
    assert answers.all_by("one")


@pytest.mark.parametrize("command", [faults.main, shipping.main])
def test_without_a_bundle_nothing_is_begun(
    command: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["command"])
    monkeypatch.setenv("SEGUE_BUNDLE", str(tmp_path / "none"))
    with pytest.raises(BundleError, match="make pipeline"):
        command()
