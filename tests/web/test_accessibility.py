"""Every page in every look: nothing on the console, nothing beyond the edge, nothing axe calls serious; and by Tab.

It writes the screenshots too. CLAWHAVEN_PAGES, words of addresses or names, picks some (`make screenshots ARGS=…`).
"""

from __future__ import annotations

import os
import re
from typing import Any, Literal

import pytest

from clawhaven.context import Context
from clawhaven.web.render import HERE, TEMPLATES
from tests.fakes.world import FolderRuntime
from tests.live.telegram_methods import Bot
from tests.web import browser, furnishing, gallery, keyboard
from tests.web.gallery import Shown

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(900),
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]

AFTER_AN_ACT = ("400 (Bad Request)", "401 (Unauthorized)", "429 (Too Many Requests)")
"""What a browser may complain of when a form was sent; else only of a page's own answer."""

NOT_SHOWN: dict[str, str] = {}
"""Templates of whole pages that the gallery does not show, each with the reason."""

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
SEEN_BY_AXE = ("phone-dark", "desk-light")
"""Both themes and both sizes; the other two looks are made of the same."""

WALKED = (
    *("landing", "doc-telegram", "configure", "wizard-review", "dashboard", "billing", "topup", "instance"),
    "instance-configuration",
    "instance-files",
    "instance-skills",
    "instance-chat",
    "settings",
    "admin-account",
    "admin-audit-wrong",
)
"""Pages of every kind, walked through by Tab on a telephone, where bars cover most; `make screenshots ARGS=…` walks
through whatever it is asked for."""


def wanted(shown: Shown) -> bool:
    """True for the pages that were asked for; all of them when none was."""
    words = os.environ.get("CLAWHAVEN_PAGES", "").split()
    return not words or any(word in (shown.name, shown.path) or shown.path.startswith(f"{word}/") for word in words)


def drawn_templates(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The names of the templates that are drawn from now on."""
    names, find = set[str](), TEMPLATES.get_template

    def note(name: str, *rest: Any) -> Any:
        names.add(name)
        return find(name, *rest)

    monkeypatch.setattr(TEMPLATES, "get_template", note)
    return names


def whole_pages() -> set[str]:
    """The templates that end in the site's layout and that no other extends."""
    extends = {}
    for path in (HERE / "templates").glob("*.html"):
        found = re.search(r'{% extends "([a-z_/]+\.html)"', path.read_text())
        if found:
            extends[path.name] = found.group(1)
    return set(extends) - set(extends.values())


@pytest.mark.parametrize("size", ["phone", "desk"])
def test_every_page_in_every_look(
    ctx: Context, world: FolderRuntime, bot: Bot, monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    """Each page is opened once for a size, and then turned from light to dark as a device does in the evening."""
    axe, drawn = browser.axe_source(), drawn_templates(monkeypatch)
    house = furnishing.furnish(ctx, world)
    base, shots, found = ctx.settings.base_url, browser.shots_folder(), []
    all_shown = [shown for shown in gallery.pages(house) if wanted(shown)]
    assert all_shown, "no page is called that"
    walked = WALKED if len(all_shown) > len(WALKED) else tuple(shown.name for shown in all_shown)
    with gallery.serving(ctx), gallery.serving(house.next_door), browser.open_chromium() as chromium:
        for who in sorted({shown.who for shown in all_shown}):
            context = chromium.new_context(**dict(browser.LOOKS)[f"{size}-light"])
            context.add_cookies(house.cookies(who, base))
            watcher = browser.Watcher(context)
            page = context.new_page()
            for shown in (one for one in all_shown if one.who == who):
                page.emulate_media(color_scheme="light")
                watcher.expected = (f"status of {shown.status} ", *(AFTER_AN_ACT if shown.act else ()))
                answer = page.goto(shown.url(ctx, house))
                assert answer is not None
                if answer.status != shown.status:
                    found.append(f"{shown.name} ({shown.path}): answered {answer.status}, not {shown.status}")
                if shown.act:
                    shown.act(page)
                for scheme in SCHEMES:
                    look = f"{size}-{scheme}"
                    page.emulate_media(color_scheme=scheme)
                    page.screenshot(path=shots / f"{shown.name}-{look}.png", full_page=True, animations="disabled")
                    wrong = browser.faults(page, watcher)
                    if look in SEEN_BY_AXE:
                        wrong += browser.barriers(page, axe)
                    if look == "phone-dark" and shown.name in walked:
                        wrong += keyboard.walk(page)
                    found += [f"{shown.name} ({shown.path}), {look}: {text}" for text in wrong]
            context.close()
    if not os.environ.get("CLAWHAVEN_PAGES"):
        never = sorted(whole_pages() - drawn)
        found += [f"{name}: no page of the gallery shows it" for name in never if name not in NOT_SHOWN]
        found += [f"{name}: shown, and listed as not shown" for name in NOT_SHOWN if name not in never]
    assert not found, "\n".join(found)


def test_the_walk_would_tell(ctx: Context) -> None:
    with browser.open_chromium() as chromium:
        page = chromium.new_page()
        page.set_content(
            "<style>button { outline: none } div { position: fixed; inset: auto 0 0 0; height: 50px; background: red }"
            "</style><a href='#' style='outline: 3px solid'>fine</a><button>unseen</button>"
            "<a href='#' style='position: fixed; bottom: 9px; outline: 3px solid'>covered</a><div></div>"
            "<input id='trap'><a href='#'>never</a>"
        )
        page.locator("#trap").evaluate(
            "one => one.addEventListener('keydown', (event) => { if (event.key === 'Tab') event.preventDefault(); })"
        )
        told = "\n".join(keyboard.walk(page))
        assert "cannot be seen: button unseen" in told
        assert "covered: a covered" in told
        assert 'lead to <a href="#">never' in told
        assert "fine" not in told


def test_axe_would_tell(ctx: Context) -> None:
    with browser.open_chromium() as chromium:
        page = chromium.new_page()
        page.set_content('<html lang="en"><title>x</title><main><h1>x</h1><img src="x"><button></button></main>')
        assert {line.split(": ")[1] for line in browser.barriers(page, browser.axe_source())} >= {
            "image-alt",
            "button-name",
        }
