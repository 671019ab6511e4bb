"""The way of a customer in Chromium: with scripts, without them, and by keyboard alone."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from clawhaven.context import Context
from tests.fakes.world import FolderRuntime
from tests.live.telegram_methods import Bot
from tests.web import walking
from tests.web.browser import LOOKS, Watcher, check, open_chromium
from tests.web.conftest import TOKEN

pytestmark = [pytest.mark.live, pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for all tests here."""
    with open_chromium() as browser:
        yield browser


def test_chat_grows_and_stays_text(served: Context, world: FolderRuntime, bot: Bot, chromium: Browser) -> None:
    context = chromium.new_context(**LOOKS[0][1])
    watcher = Watcher(context)
    page = context.new_page()
    instance_id = walking.sign_up(page, served.settings.base_url, "bob@example.com", TOKEN)
    page.wait_for_url("**/ready/*", timeout=60_000)
    page.get_by_role("link", name="Say hello in the browser").click()
    box = page.get_by_label("Your message")
    for words in ("hello", "<img src=x onerror=alert(1)>"):
        box.fill(words)
        box.press("Enter")
        page.get_by_text(f"You said: {words}", exact=True).wait_for()
        expect(page.locator("#say button")).to_be_enabled()
    assert page.locator(".talk img").count() == 0
    assert page.locator(".turn").count() == 4
    (world.root / instance_id / "RUNNING").unlink()
    watcher.expected = ("503",)
    box.fill("are you there?")
    page.get_by_role("button", name="Send").click()
    page.get_by_text("The assistant is restarting.").wait_for()
    assert box.input_value() == "are you there?"
    check(page, watcher)
    context.close()


def test_keyboard_alone_signs_up(served: Context, bot: Bot, chromium: Browser) -> None:
    context = chromium.new_context(**LOOKS[2][1])
    page = context.new_page()
    page.goto(served.settings.base_url)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("dora@example.com")
    page.keyboard.press("Enter")
    page.get_by_label("Your email").focus()
    page.keyboard.press("Enter")
    page.get_by_label("Name of the assistant").focus()
    page.keyboard.type("Ada")
    page.keyboard.press("Enter")
    for step in ("model", "channel", "skills", "review"):
        page.wait_for_url(f"**/configure/{step}")
        page.get_by_role("button", name=re.compile("Continue|Skip")).focus()
        page.keyboard.press("Enter")
    page.wait_for_url("**/sandbox/checkout/*")
    page.get_by_role("button", name="Pay").focus()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/(deploying|ready)/"))
    context.close()


def test_the_theme_changes_at_once_and_stays(served: Context, chromium: Browser) -> None:
    context = chromium.new_context(**LOOKS[0][1])
    watcher = Watcher(context)
    page = context.new_page()
    page.goto(f"{served.settings.base_url}/sign-in")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    with page.expect_response("**/appearance"):
        page.get_by_role("button", name="Dark").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    page.wait_for_load_state("networkidle")
    # The script does not follow the answer's redirect, which Chromium calls aborted.
    watcher.complaints = [one for one in watcher.complaints if not one.endswith("/sign-in: net::ERR_ABORTED")]
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.get_by_role("button", name="Dark").get_attribute("aria-pressed") == "true"
    check(page, watcher)
    context.close()


def test_what_needs_scripts_works_with_them(served: Context, chromium: Browser) -> None:
    context = chromium.new_context(**LOOKS[2][1], permissions=["clipboard-read", "clipboard-write"])
    watcher = Watcher(context)
    page = context.new_page()
    page.goto(f"{served.settings.base_url}/dev/style")
    assert page.evaluate("document.activeElement.id") == "problems", "what is wrong is focused"
    page.get_by_role("button", name="Copy Link to the bot").click()
    assert page.evaluate("navigator.clipboard.readText()") == "https://t.me/ada_haven_bot?start=x"
    page.get_by_label("Several lines").fill("four")
    assert page.locator("#sample_area-count").text_content() == "4 / 5000"
    page.get_by_role("link", name="Delete").click()
    assert page.get_by_role("dialog").is_visible()
    page.keyboard.press("Escape")
    assert not page.get_by_role("dialog").is_visible()
    check(page, watcher)
    context.close()


def test_a_failure_never_takes_the_place_of_a_part_of_the_page(served: Context, bot: Bot, chromium: Browser) -> None:
    context = chromium.new_context(**LOOKS[0][1])
    page = context.new_page()
    walking.sign_up(page, served.settings.base_url, "eve@example.com", TOKEN)
    page.goto(f"{served.settings.base_url}/usage")
    page.route("**/usage/live", lambda route: route.fulfill(status=500, body="<h1>Something broke</h1>"))
    toast = page.locator(".toast")
    expect(toast).to_have_text("That did not work. Please try again.", timeout=15_000)
    page.unroute("**/usage/live")
    with page.expect_response("**/usage/live", timeout=15_000) as answered:  # it goes on asking
        pass
    assert answered.value.status == 200
    context.clear_cookies()
    expect(toast).to_have_text("You are signed out. Please sign in again.", timeout=15_000)
    assert page.locator("h1").all_inner_texts() == [page.locator("#content h1").inner_text()]
    expect(page.locator("#live .figure")).to_have_count(3)
    context.close()
