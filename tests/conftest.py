"""What all tests share."""

import os
import shutil
import tempfile
from collections.abc import Iterator

import pytest

# Each of the processes that run tests at the same time counts its own answers.
_COUNTS = tempfile.TemporaryDirectory(prefix="segue_counts_", ignore_cleanup_errors=True)
os.environ["PROMETHEUS_MULTIPROC_DIR"] = _COUNTS.name

# They train the whole graph.
LONGEST = ("test_dvc.py", "test_running.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that two workers end together."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Fail what would be skipped in CI: there every part that a test needs is installed."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"CI skips nothing, but: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def chromium() -> str:
    """Return where Chromium is; what needs it is skipped without it."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("There is no Chromium here; `apt-get install chromium`.")
    return found
