"""The landing page in a browser: the trial chat as it grows, what a stranger types as text, and no network."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from clawhaven.context import Context
from tests.web.browser import Watcher, open_chromium
from tests.web.gallery import serving

pytestmark = [pytest.mark.live, pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)]

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with open_chromium() as browser:
        yield browser


def test_a_stranger_talks_until_the_free_messages_are_used(ctx: Context, chromium: Browser) -> None:
    with serving(ctx):
        context = chromium.new_context(viewport={"width": 390, "height": 844})
        watcher = Watcher(context)
        page = context.new_page()
        page.goto(ctx.settings.base_url)
        box, left = page.get_by_label("Your message"), page.locator("#trial-left")
        for number in range(5):
            box.fill(f"{HOSTILE} {number}")
            box.press("Enter")
            expect(page.locator("#trial-talk .turn.mine")).to_have_count(number + 1)
            expect(page.locator("#trial-talk .words").last).to_contain_text(f"{HOSTILE} {number}”")
            expect(left).to_have_text(f"Free messages left: {4 - number}")
        expect(page.locator("#trial-over")).to_be_visible()
        expect(page.locator("#trial")).to_be_hidden()
        assert page.locator("#trial-talk img, #trial-talk script").count() == 0
        page.reload()
        expect(page.locator("#trial-over")).to_be_visible()
        assert watcher.complaints == []
        context.close()


def test_without_a_network_the_page_says_so_and_keeps_the_words(ctx: Context, chromium: Browser) -> None:
    with serving(ctx):
        context = chromium.new_context()
        page = context.new_page()
        page.goto(ctx.settings.base_url)
        context.set_offline(True)
        expect(page.get_by_text("You are offline.")).to_be_visible()
        box = page.get_by_label("Your message")
        box.fill("Is anybody there?")
        page.get_by_role("button", name="Send").click()
        expect(page.get_by_role("alert")).to_have_text("The site cannot be reached. Please try again.")
        expect(box).to_have_value("Is anybody there?")
        context.set_offline(False)
        expect(page.get_by_text("You are offline.")).to_have_count(0)
        page.get_by_role("button", name="Send").click()
        expect(page.locator("#trial-talk .words").last).to_contain_text("You said: “Is anybody there?”")
        context.close()


def test_a_conversation_without_scripts(ctx: Context, chromium: Browser) -> None:
    with serving(ctx):
        context = chromium.new_context(java_script_enabled=False)
        page = context.new_page()
        page.goto(ctx.settings.base_url)
        for number in (1, 2):
            page.get_by_label("Your message").fill(f"{HOSTILE} {number}")
            page.get_by_role("button", name="Send").click()
            expect(page.locator("#trial-talk .words").last).to_contain_text(f"{HOSTILE} {number}”")
        expect(page.locator("#trial-talk .turn.mine")).to_have_count(2)
        page.get_by_role("link", name="Help").first.click()
        page.get_by_label("Search the help").fill("cancel")
        page.get_by_role("button", name="Search").click()
        page.get_by_role("link", name="Pause, cancel, delete").first.click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Pause, cancel, delete")
        context.close()
