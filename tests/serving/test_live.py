import json
import logging
import re
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from features.query import Query, SessionEvent
from serving.files import LISTENERS_FILE
from serving.live import AGAIN_SECONDS, Live, load
from serving.manifest import MANIFEST, BundleError
from serving.recommender import Recommender
from tests.serving.conftest import write_manifest

Copy = Callable[[str], Path]


def point(link: Path, target: Path) -> None:
    """Move a link at once, as `serving.deploy` does."""
    new = link.with_name("new")
    new.symlink_to(target)
    new.replace(link)


def version(live: Live) -> str:
    return live.current.recommender.version


def test_opens_what_the_link_leads_to(served: Path, bundle: Path) -> None:
    live = Live.open(served)
    assert version(live) == "test-1"
    assert live.current.folder == bundle.resolve()
    assert [listener.user_id for listener in live.current.listeners] == ["user-1"]


def test_an_unmoved_link_changes_nothing(served: Path) -> None:
    live = Live.open(served)
    before = live.current
    assert not live.refresh()
    assert live.current is before


def test_a_moved_link_changes_the_bundle_and_requests_under_way_keep_theirs(
    served: Path, copy_bundle: Copy
) -> None:
    live = Live.open(served)
    under_way = live.current
    point(served, copy_bundle("test-2"))
    assert live.refresh()
    assert version(live) == "test-2"
    slate = under_way.recommender.recommend(Query(ts=datetime.now(UTC)), k=3)
    assert under_way.recommender.version == "test-1"
    assert len(slate.songs) == 3


def test_a_bad_bundle_is_refused_once_and_the_next_good_one_taken(
    served: Path, copy_bundle: Copy, caplog: pytest.LogCaptureFixture
) -> None:
    live = Live.open(served)
    bad = copy_bundle("test-2")
    (bad / "ranker.txt").write_text("tree", encoding="utf-8")
    point(served, bad)
    with caplog.at_level(logging.ERROR, logger="serving.live"):
        assert not live.refresh()
        assert not live.refresh()
    assert version(live) == "test-1"
    assert len(caplog.records) == 1
    assert "Stays with test-1" in caplog.text
    assert "ranker.txt" in caplog.text
    point(served, copy_bundle("test-3"))
    assert live.refresh()
    assert version(live) == "test-3"


def test_a_fault_that_passes_keeps_nobody_from_a_bundle(
    served: Path, copy_bundle: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = [0.0]
    live = Live(served, load(served), now=lambda: moments[0])
    point(served, copy_bundle("test-2"))
    with monkeypatch.context() as patch:
        patch.setattr(Recommender, "load", too_many_files)
        assert not live.refresh()
    assert not live.refresh()
    moments[0] += AGAIN_SECONDS
    assert live.refresh()
    assert version(live) == "test-2"


def too_many_files(folder: Path) -> Recommender:
    raise OSError(24, "Too many open files", str(folder))


def test_links_in_a_circle_are_refused_like_any_other(served: Path, copy_bundle: Copy) -> None:
    live = Live.open(served)
    point(served, served)
    assert not live.refresh()
    point(served, copy_bundle("test-2"))
    assert live.refresh()


def test_a_dangling_link_is_refused(served: Path, tmp_path: Path) -> None:
    live = Live.open(served)
    point(served, tmp_path / "gone")
    assert not live.refresh()
    assert version(live) == "test-1"


def test_the_watch_exchanges_bundles_while_requests_go_on(served: Path, copy_bundle: Copy) -> None:
    live = Live.open(served)
    stopped = threading.Event()
    seen: list[str] = []
    faults: list[BaseException] = []

    def ask() -> None:
        query = Query(ts=datetime.now(UTC), session=(SessionEvent("song-003"),))
        while not stopped.is_set():
            loaded = live.current
            try:
                slate = loaded.recommender.recommend(query, k=5, explain=True)
                places = loaded.recommender.retrieval.songs.index_of
                titles = [loaded.lookup.title(places[song.song_id]) for song in slate.songs]
                assert len(titles) == 5
            except BaseException as error:  # noqa: BLE001 - kept for the main thread to show
                faults.append(error)
            seen.append(loaded.recommender.version)

    threads = [
        threading.Thread(target=live.watch, args=(stopped, 0.005)),
        threading.Thread(target=ask),
    ]
    for thread in threads:
        thread.start()
    for name in ("test-2", "test-3"):
        point(served, copy_bundle(name))
        deadline = time.monotonic() + 30
        while name not in seen[-1:] and time.monotonic() < deadline:
            stopped.wait(0.005)
    stopped.set()
    for thread in threads:
        thread.join()
    assert faults == []
    assert list(dict.fromkeys(seen)) == ["test-1", "test-2", "test-3"]


def test_no_bundle_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no bundle at .*nowhere.*make pipeline"):
        Live.open(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "name", ["songs.npz", "factors_listen.npz", "ranker.txt", "settings.json", "sessions.npz"]
)
def test_a_changed_file_is_named(copy_bundle: Copy, name: str) -> None:
    folder = copy_bundle("damaged")
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 0xFF
    (folder / name).write_bytes(data)
    with pytest.raises(BundleError, match=re.escape(name)):
        load(folder)


def test_an_unreadable_file_with_a_right_checksum_is_refused(copy_bundle: Copy) -> None:
    folder = copy_bundle("damaged")
    (folder / "songs.npz").write_bytes(b"not a zip")
    write_manifest(folder, "damaged")
    with pytest.raises(BundleError, match="cannot be used"):
        load(folder)


def test_settings_of_another_version_are_named_in_one_line(copy_bundle: Copy) -> None:
    folder = copy_bundle("mismatched")
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    settings["generators"]["together"]["colour"] = "red"
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    write_manifest(folder, "mismatched")
    with pytest.raises(BundleError, match=r"together\.colour: Extra inputs") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_a_ranker_of_other_features_is_refused(copy_bundle: Copy) -> None:
    folder = copy_bundle("mismatched")
    text = (folder / "ranker.txt").read_text(encoding="utf-8")
    (folder / "ranker.txt").write_text(text.replace("listen_score", "old_name"), encoding="utf-8")
    write_manifest(folder, "mismatched")
    with pytest.raises(BundleError, match=r"other features.*old_name"):
        load(folder)


def test_another_format_is_refused(copy_bundle: Copy) -> None:
    folder = copy_bundle("old")
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    (folder / MANIFEST).write_text(json.dumps(manifest | {"format": 0}), encoding="utf-8")
    with pytest.raises(BundleError, match="format 0"):
        load(folder)


def test_a_bundle_without_listeners_has_none(copy_bundle: Copy) -> None:
    folder = copy_bundle("plain")
    (folder / LISTENERS_FILE).unlink()
    write_manifest(folder, "plain")
    assert load(folder).listeners == ()


def test_wrong_listeners_are_refused(copy_bundle: Copy) -> None:
    folder = copy_bundle("wrong")
    (folder / LISTENERS_FILE).write_text('{"listeners": [{"label": "?"}]}', encoding="utf-8")
    write_manifest(folder, "wrong")
    with pytest.raises(BundleError, match=r"listeners\.json.*user_id"):
        load(folder)
