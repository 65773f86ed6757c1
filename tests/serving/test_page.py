"""The player page in a real, headless Chromium, against the real service."""

import shutil
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, Request, Response, expect, sync_playwright

from tests.serving.conftest import EVIL_TITLE

pytestmark = pytest.mark.browser

ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
Act = Callable[[], Any]


@pytest.fixture(scope="module")
def address(app: Any) -> Iterator[str]:
    # A signal handler of its own would need the main thread.
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    started = threading.Event()
    run_startup = server.startup

    async def startup(sockets: Any = None) -> None:
        await run_startup(sockets)
        started.set()

    server.startup = startup  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run)
    thread.start()
    assert started.wait(60)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("There is no Chromium here; `apt-get install chromium`.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def requests() -> list[Request]:
    """Return what the page has asked for so far."""
    return []


@pytest.fixture
def page(browser: Browser, address: str, requests: list[Request]) -> Iterator[Page]:
    """Open the page with its first queue; every error in it fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.set_default_timeout(20_000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
    page.on("request", lambda request: requests.append(request))
    page.goto(address)
    settle(page)
    yield page
    context.close()
    assert errors == []


def settle(page: Page) -> None:
    """Wait until the queue has been drawn and no answer is awaited."""
    expect(page.locator("#songs[aria-busy=false] .song").first).to_be_visible()


def answer_to(page: Page, act: Act) -> tuple[dict[str, Any], dict[str, Any]]:
    """Do something that asks for a new queue; return the request's and the answer's body."""

    def is_queue(response: Response) -> bool:
        return response.url.endswith("/recommend") and response.status == 200

    with page.expect_response(is_queue) as waiting:
        act()
    sent, answered = waiting.value.request.post_data_json, waiting.value.json()
    shown = [song["song_id"] for song in answered["songs"]]
    expect(page.locator("#songs .song").first).to_have_attribute("data-song", shown[0])
    settle(page)
    return sent, answered


def queue(page: Page) -> list[str]:
    return [str(item.get_attribute("data-song")) for item in page.locator("#songs .song").all()]


def first_titles(page: Page) -> list[str]:
    return page.locator("#songs .title").all_inner_texts()


def press(page: Page, key: str) -> Act:
    return lambda: page.keyboard.press(key)


def test_the_queue_shows_title_artist_reason_and_sources(page: Page) -> None:
    rows = page.locator("#songs .song")
    assert rows.count() == 12
    first = rows.first
    for part in (".title", ".artists", ".reason", ".source"):
        expect(first.locator(part).first).not_to_be_empty()
    expect(page.locator("#listener")).to_have_value("known:user-1")
    expect(page.locator("#version")).to_have_text("model test-1")
    assert {"Artist 3"} == set(page.locator("#songs .artists").all_inner_texts())


def test_nothing_is_loaded_from_elsewhere(
    page: Page, address: str, requests: list[Request]
) -> None:
    page.goto(f"{address}/docs")
    expect(page.locator(".opblock-summary-path", has_text="/recommend")).to_be_visible()
    assert len(requests) > 10
    assert [r.url for r in requests if not r.url.startswith((address, "data:"))] == []


def test_a_title_with_markup_is_text(page: Page) -> None:
    page.locator("#listener").select_option("by-id")
    page.locator("#user-id").fill("a stranger")
    answer_to(page, press(page, "Enter"))
    page.locator("#search").fill("<img")
    expect(page.locator("#found .title")).to_have_text(EVIL_TITLE)
    answer_to(page, press(page, "Enter"))
    expect(page.locator("#now-title")).to_have_text(EVIL_TITLE)
    expect(page.locator("#play")).to_have_attribute("aria-label", "Pause")
    reasons = page.locator("#songs .reason", has_text="<img src=x")
    expect(reasons.first).to_be_visible()
    assert page.evaluate("window.pwned") is None
    assert page.locator("main img").count() == 0


def test_keys_play_like_add_skip_and_go_on(page: Page) -> None:
    first = queue(page)
    sent, _ = answer_to(page, press(page, "Space"))
    expect(page.locator("#now-title")).not_to_have_text("Press play")
    assert sent["session"] == [{"song_id": first[0], "action": "play"}]
    assert first[0] not in queue(page)

    sent, _ = answer_to(page, press(page, "l"))
    assert sent["session"][-1] == {"song_id": first[0], "action": "like"}
    expect(page.locator("#like")).to_have_attribute("aria-pressed", "true")

    sent, _ = answer_to(page, press(page, "a"))
    assert sent["session"][-1] == {"song_id": first[0], "action": "playlist_add"}
    expect(page.locator("#add")).to_have_attribute("aria-pressed", "true")

    second = queue(page)[0]
    sent, _ = answer_to(page, press(page, "ArrowRight"))
    assert sent["session"][0] == {"song_id": first[0], "action": "play"}
    assert sent["session"][-1] == {"song_id": second, "action": "play"}

    third = queue(page)[0]
    sent, _ = answer_to(page, press(page, "s"))
    skipped = next(event for event in sent["session"] if event["song_id"] == second)
    assert skipped["action"] == "skip"
    assert 0 <= skipped["played_ms"] < 60_000
    assert sent["session"][-1] == {"song_id": third, "action": "play"}
    expect(page.locator("#session")).to_have_text("2 played · 1 skipped · 1 liked · 1 added")


def test_space_pauses_and_the_clock_stands_still(page: Page) -> None:
    answer_to(page, press(page, "Space"))
    expect(page.locator("#clock")).to_have_text("0:01")
    page.keyboard.press("Space")
    expect(page.locator("#play")).to_have_attribute("aria-label", "Play")
    expect(page.locator("#said")).to_have_text("Paused.")
    page.keyboard.press("Space")
    expect(page.locator("#play")).to_have_attribute("aria-label", "Pause")


def test_a_like_is_taken_back(page: Page) -> None:
    answer_to(page, press(page, "Space"))
    answer_to(page, page.locator("#like").click)
    sent, _ = answer_to(page, page.locator("#like").click)
    assert [event["action"] for event in sent["session"]] == ["play", "like", "unlike"]
    expect(page.locator("#like")).to_have_attribute("aria-pressed", "false")


def test_arrows_walk_the_queue_and_letters_act_where_the_focus_is(page: Page) -> None:
    songs = queue(page)
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    focused = "document.activeElement.closest('.song')?.dataset.song"
    assert page.evaluate(focused) == songs[1]
    sent, _ = answer_to(page, press(page, "l"))
    assert sent["session"] == [{"song_id": songs[1], "action": "like"}]
    assert page.evaluate(focused) == songs[1]

    before = queue(page)
    follower = before[before.index(songs[1]) + 1]
    sent, _ = answer_to(page, press(page, "s"))
    assert sent["session"][-1] == {"song_id": songs[1], "action": "skip", "played_ms": 0}
    assert songs[1] not in queue(page)
    # The focus goes to the next song, and stays with it where the new queue still holds it.
    chosen = page.evaluate(focused)
    assert chosen in queue(page)
    assert chosen == follower or follower not in queue(page)
    sent, _ = answer_to(page, press(page, "Enter"))
    assert sent["session"][-1] == {"song_id": chosen, "action": "play"}


def test_the_focus_is_visible(page: Page) -> None:
    page.keyboard.press("ArrowDown")
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_the_queues_buttons(page: Page) -> None:
    row = page.locator("#songs .song").nth(2)
    song = str(row.get_attribute("data-song"))
    for action, event in (("like", "like"), ("add", "playlist_add")):
        button = page.locator(f'[data-song="{song}"] [data-action="{action}"]')
        sent, _ = answer_to(page, button.click)
        assert sent["session"][-1] == {"song_id": song, "action": event}
    sent, _ = answer_to(page, page.locator("#songs .song").nth(4).locator(".pick").click)
    assert sent["session"][-1]["action"] == "play"


def test_playing_another_song_cuts_the_current_one(page: Page) -> None:
    answer_to(page, press(page, "Space"))
    sent, _ = answer_to(page, page.locator("#songs .song").nth(1).locator(".pick").click)
    assert [event["action"] for event in sent["session"]] == ["skip", "play"]


def test_a_search_starts_a_session_elsewhere(page: Page) -> None:
    page.keyboard.press("/")
    page.keyboard.type("artist 5")
    expect(page.locator("#found .pick").first).to_be_visible()
    page.keyboard.press("ArrowDown")
    sent, answered = answer_to(page, press(page, "Enter"))
    assert sent["session"][0]["song_id"].endswith("5")
    assert "Artist 5" in {artist for song in answered["songs"] for artist in song["artists"]}
    expect(page.locator("#found")).to_be_hidden()
    expect(page.locator("#now-artists")).to_have_text("Artist 5")
    page.locator("#search").fill("nothing at all")
    expect(page.locator("#found")).to_have_text("Nothing found")


def test_typing_is_no_command(page: Page) -> None:
    page.locator("#search").focus()
    page.keyboard.type("also")
    expect(page.locator("#found")).to_be_visible()
    expect(page.locator("#session")).to_have_text("0 played · 0 skipped · 0 liked · 0 added")
    expect(page.locator("#search")).to_have_value("also")


def test_the_moment_is_asked_for(page: Page) -> None:
    party = page.get_by_role("button", name="Party", exact=True)
    sent, answered = answer_to(page, party.click)
    assert sent["context"] == {"occasion": "party"}
    expect(party).to_have_attribute("aria-pressed", "true")
    told = [s for s in answered["songs"] if "For party" in s["reasons"]]
    assert all(int(song["song_id"][-3:]) % 8 == 0 for song in told)
    sent, _ = answer_to(page, page.get_by_role("button", name="Calm", exact=True).click)
    assert sent["context"] == {"occasion": "party", "mood": "calm"}
    sent, _ = answer_to(page, party.click)
    assert sent["context"] == {"mood": "calm"}


def test_someone_new_signs_up(page: Page) -> None:
    answer_to(page, press(page, "Space"))
    page.locator("#listener").select_option("new")
    page.get_by_label("Born in").fill("1994")
    page.get_by_label("Region").select_option("Europe")
    page.get_by_text("German").click()
    sent, _ = answer_to(page, page.get_by_role("button", name="Start listening").click)
    assert sent["user_id"] is None
    profile = sent["profile"]
    assert (profile["birth_year"], profile["region"], profile["languages"]) == (
        1994, "Europe", ["de"],
    )  # fmt: skip
    assert sent["session"] == []
    chosen = page.locator("#listener option:checked")
    expect(chosen).to_have_text("Newcomer, born 1994, Europe")
    expect(page.locator("#now-title")).to_have_text("Press play")


def test_a_cancelled_sign_up_changes_nothing(page: Page) -> None:
    page.locator("#listener").select_option("new")
    page.keyboard.press("Escape")
    expect(page.locator("#listener")).to_have_value("known:user-1")


def test_any_listener_by_id(page: Page) -> None:
    page.locator("#listener").select_option("by-id")
    page.locator("#user-id").fill("user-2")
    sent, answered = answer_to(page, press(page, "Enter"))
    assert sent["user_id"] == "user-2"
    assert answered["songs"][0]["artists"] == ["Artist 5"]


def test_changes_are_told_to_those_who_do_not_see_them(page: Page) -> None:
    assert page.locator("#said").get_attribute("aria-live") == "polite"
    answer_to(page, press(page, "Space"))
    title = page.locator("#now-title").inner_text()
    up_next = page.locator("#songs .title").first.inner_text()
    expect(page.locator("#said")).to_contain_text(f"Now playing {title}")
    expect(page.locator("#said")).to_contain_text(f"Up next: {up_next}")
    unnamed = "buttons => buttons.filter(b => !b.ariaLabel && !b.innerText.trim()).length"
    assert page.locator("button:visible").evaluate_all(unnamed) == 0


def test_a_failing_service_is_said_and_can_be_tried_again(browser: Browser, address: str) -> None:
    page = browser.new_page()
    broken = threading.Event()
    broken.set()
    page.route(
        "**/recommend",
        lambda route: (
            route.fulfill(status=503, json={"error": "Come back later."})
            if broken.is_set()
            else route.continue_()
        ),
    )
    page.goto(address)
    expect(page.get_by_role("alert")).to_contain_text("Come back later.")
    broken.clear()
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#songs .song").first).to_be_visible()
    expect(page.get_by_role("alert")).to_be_hidden()
    page.close()


@pytest.mark.parametrize("width", [320, 390, 768, 1280, 1920])
def test_no_width_scrolls_sideways(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    answer_to(page, press(page, "Space"))
    too_wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(too_wide) == 0
    for name in ("#play", "#search", "#listener"):
        box = page.locator(name).bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(page: Page, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    contrast = """() => {
      const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
      const light = (color) => {
        paint.fillStyle = color;
        paint.fillRect(0, 0, 1, 1);
        const [r, g, b] = [...paint.getImageData(0, 0, 1, 1).data].map((v) => v / 255)
          .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
      };
      const ground = light(getComputedStyle(document.body).backgroundColor);
      const text = (name) => light(getComputedStyle(document.querySelector(name)).color);
      return ["body", ".names .artists", ".reason", "footer a"].map((name) => {
        const [high, low] = [ground, text(name)].sort((a, b) => b - a);
        return (high + 0.05) / (low + 0.05);
      });
    }"""
    # WCAG 2.2, success criterion 1.4.3.
    assert min(page.evaluate(contrast)) >= 4.5
