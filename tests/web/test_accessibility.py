"""Every page in every look: nothing on the console, nothing beyond the edge, nothing axe calls serious.

It writes the screenshots too. CLAWHAVEN_PAGES, words of addresses or names, picks some (`make screenshots ARGS=…`).
"""

from __future__ import annotations

import os

import pytest

from clawhaven.context import Context
from tests.fakes.world import FolderRuntime
from tests.live.telegram_methods import Bot
from tests.web import browser, gallery
from tests.web.gallery import Shown

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(900),
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]

SEEN_BY_AXE = ("phone-dark", "desk-light")
"""Both themes and both sizes; the other two looks are made of the same."""


def wanted(shown: Shown) -> bool:
    """True for the pages that were asked for; all of them when none was."""
    words = os.environ.get("CLAWHAVEN_PAGES", "").split()
    return not words or any(word in (shown.name, shown.path) or shown.path.startswith(f"{word}/") for word in words)


def test_every_page_in_every_look(ctx: Context, world: FolderRuntime, bot: Bot) -> None:
    axe = browser.axe_source()
    house = gallery.furnish(ctx, world)
    base, shots, found = ctx.settings.base_url, browser.shots_folder(), []
    all_shown = [shown for shown in gallery.pages(house) if wanted(shown)]
    assert all_shown, "no page is called that"
    with gallery.serving(ctx), browser.open_chromium() as chromium:
        for look, options in browser.LOOKS:
            for who in sorted({shown.who for shown in all_shown}):
                context = chromium.new_context(**options)
                context.add_cookies(house.cookies(who, base))
                watcher = browser.Watcher(context)
                watcher.expected = ("404 (Not Found)", "400 (Bad Request)")
                page = context.new_page()
                for shown in (one for one in all_shown if one.who == who):
                    page.goto(base + shown.path)
                    if shown.act:
                        shown.act(page)
                    page.screenshot(path=shots / f"{shown.name}-{look}.png", full_page=True)
                    wrong = browser.faults(page, watcher)
                    if look in SEEN_BY_AXE:
                        wrong += browser.barriers(page, axe)
                    found += [f"{shown.name} ({shown.path}), {look}: {text}" for text in wrong]
                context.close()
    assert not found, "\n".join(found)


def test_axe_would_tell(ctx: Context) -> None:
    with browser.open_chromium() as chromium:
        page = chromium.new_page()
        page.set_content('<html lang="en"><title>x</title><main><h1>x</h1><img src="x"><button></button></main>')
        assert {line.split(": ")[1] for line in browser.barriers(page, browser.axe_source())} >= {
            "image-alt",
            "button-name",
        }
