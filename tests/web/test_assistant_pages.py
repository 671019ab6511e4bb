"""An assistant's pages in Chromium, with a worker behind them: files, settings, log, talk. Every text stays text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Dialog, expect

from clawhaven.accounts.signup import Owner
from clawhaven.context import Context
from tests.fakes.world import FolderRuntime
from tests.web import lived
from tests.web.browser import LOOKS, Watcher, check, open_chromium
from tests.web.conftest import Visit

pytestmark = [pytest.mark.live, pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)]

EVIL = "<img src=x onerror=alert(1)><script>alert(2)</script>"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for all tests here."""
    with open_chromium() as browser:
        yield browser


@pytest.fixture
def soul(ctx: Context, world: FolderRuntime, owner: Owner, live: str) -> Path:
    """SOUL.md of an assistant that has been used."""
    lived.live_in(ctx, world, owner, live)
    return world.root / live / "state/workspace/SOUL.md"


def enter(chromium: Browser, mine: Visit, **options: object) -> tuple[BrowserContext, Watcher]:
    """The customer's browser."""
    context = chromium.new_context(**{**LOOKS[2][1], **options})  # type: ignore[arg-type]
    jar = mine.http.cookies.jar
    base = mine.ctx.settings.base_url
    context.add_cookies([{"name": one.name, "value": one.value or "", "url": base} for one in jar])
    return context, Watcher(context)


@pytest.mark.parametrize("has_scripts", [True, False], ids=["scripts", "no-scripts"])
def test_a_file_is_edited_compared_and_brought_back(
    served: Context, live: str, soul: Path, mine: Visit, chromium: Browser, has_scripts: bool
) -> None:
    context, watcher = enter(chromium, mine, java_script_enabled=has_scripts)
    page = context.new_page()
    url = f"{served.settings.base_url}/instances/{live}/files/soul"
    page.goto(url)
    before = soul.read_text()
    lived.write_file(page, "SOUL.md", f"# New\n\n- **kind**\n- {EVIL}")
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("#preview strong")).to_have_text("kind")
    expect(page.locator("#preview")).to_contain_text("<script>alert(2)</script>")
    assert soul.read_text() == before
    if has_scripts:
        page.get_by_role("textbox", name="SOUL.md").press("Control+s")
    else:
        page.get_by_role("button", name="Save").click()
    page.wait_for_url("**done=file-saved")
    for _ in range(100):
        if soul.read_text() != before:
            break
        page.wait_for_timeout(100)
    assert soul.read_text() == f"# New\n\n- **kind**\n- {EVIL}\n"
    if has_scripts:
        expect(page.get_by_text("The change is being written")).to_have_count(0)
    soul.write_text("The assistant was here.\n")
    page.goto(url)
    soul.write_text("And again.\n")
    lived.write_file(page, "SOUL.md", "Mine.")
    if has_scripts:
        watcher.expected = ("409",)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("heading", name="Somebody was faster")).to_be_visible()
    expect(page.locator("#text")).to_have_value("Mine.")
    page.goto(f"{url}/versions/3")
    expect(page.locator(".diff")).to_contain_text(EVIL)
    page.get_by_role("button", name="Bring this text back").click()
    page.wait_for_url("**done=file-restored")
    for _ in range(100):
        if EVIL in soul.read_text():
            break
        page.wait_for_timeout(100)
    assert EVIL in soul.read_text()
    if has_scripts:
        check(page, watcher)
    context.close()


@pytest.mark.parametrize("look", [LOOKS[1], LOOKS[2]], ids=lambda look: look[0])
def test_the_editor_colours_markdown_and_lets_the_keyboard_go(
    served: Context, live: str, soul: Path, mine: Visit, chromium: Browser, look: tuple[str, dict[str, Any]]
) -> None:
    context, watcher = enter(chromium, mine, **look[1])
    page = context.new_page()
    asked: list[str] = []

    def answer(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.accept()

    page.on("dialog", answer)
    page.goto(f"{served.settings.base_url}/instances/{live}/files/soul")
    page.reload()
    assert asked == [], "nothing was changed"
    field, kept = page.get_by_role("textbox", name="SOUL.md"), page.locator("#text")
    expect(kept).to_be_hidden()
    before = kept.input_value()
    page.locator("label[for=text]").click()
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-multiline", "true")
    page.keyboard.press("Control+Home")
    page.keyboard.insert_text("# Tea\n\n**Green**, no `sugar`.\n")
    after = f"# Tea\n\n**Green**, no `sugar`.\n{before}"
    expect(kept).to_have_value(after)
    expect(page.locator("#text-count")).to_have_text(f"{len(after)} / 20000")
    heading = page.locator(".cm-line", has_text="# Tea").locator("span").last
    expect(heading).to_have_css("font-weight", "700")
    assert heading.evaluate("one => getComputedStyle(one).color") != field.evaluate(
        "one => getComputedStyle(one).color"
    )
    page.get_by_role("button", name="Undo").click()
    expect(kept).to_have_value(before)
    expect(field).to_be_focused()
    page.get_by_role("button", name="Redo").click()
    expect(kept).to_have_value(after)
    page.keyboard.press("Control+z")
    expect(kept).to_have_value(before)
    page.keyboard.press("Control+a")
    page.keyboard.type("# Mine")
    expect(kept).to_have_value("# Mine")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Undo")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(field).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(field).not_to_be_focused()
    check(page, watcher)
    page.reload()
    assert asked == ["beforeunload"]
    context.close()


def test_settings_are_looked_at_and_taken_over(
    served: Context, live: str, soul: Path, mine: Visit, chromium: Browser
) -> None:
    context, watcher = enter(chromium, mine)
    page = context.new_page()
    page.goto(f"{served.settings.base_url}/instances/{live}/configuration")
    page.get_by_label("Name", exact=True).fill("Bea")
    page.locator("#custom_instructions").fill(EVIL)
    page.get_by_role("button", name="Look at the changes").click()
    expect(page.locator(".diff").first).to_contain_text(EVIL)
    check(page, watcher)
    page.get_by_label("Write it anew").check()
    page.get_by_role("button", name="Apply the changes").click()
    page.wait_for_url("**done=saved")
    agents = soul.with_name("AGENTS.md")
    for _ in range(100):
        if EVIL in agents.read_text() and "You are Bea" in soul.read_text():
            break
        page.wait_for_timeout(100)
    assert EVIL in agents.read_text()
    assert "You are Bea" in soul.read_text()
    context.close()


def test_the_log_goes_on_until_it_is_paused(
    served: Context, world: FolderRuntime, live: str, soul: Path, mine: Visit, chromium: Browser
) -> None:
    context, watcher = enter(chromium, mine)
    page = context.new_page()
    page.goto(f"{served.settings.base_url}/instances/{live}/logs")
    log = page.get_by_role("log")
    expect(log.locator("p")).to_have_count(3)
    lived.add_line(served, world, live, "ERROR", "tools", EVIL)
    expect(log.locator("p")).to_have_count(4, timeout=10_000)
    expect(log.locator("p").last).to_contain_text(EVIL)
    assert log.locator("img, script").count() == 0
    page.get_by_role("button", name="Pause").click()
    lived.add_line(served, world, live, "INFO", "gateway", "while nobody looked")
    page.wait_for_timeout(2500)
    expect(log.locator("p")).to_have_count(4)
    page.get_by_role("button", name="Follow").click()
    expect(log.locator("p").last).to_contain_text("while nobody looked", timeout=10_000)
    check(page, watcher)
    context.close()


def test_what_was_said_before_is_there_and_stays_text(
    served: Context, live: str, soul: Path, mine: Visit, chromium: Browser
) -> None:
    mine.post(f"/instances/{live}/chat", message=EVIL)
    context, watcher = enter(chromium, mine)
    page = context.new_page()
    page.goto(f"{served.settings.base_url}/instances/{live}/chat")
    expect(page.locator(".turn")).to_have_count(4)
    expect(page.locator(".turn").last).to_contain_text(EVIL)
    assert page.locator(".talk img, .talk script").count() == 0
    page.get_by_label("Your message").fill("and now?")
    page.get_by_label("Your message").press("Enter")
    page.get_by_text("You said: and now?", exact=True).wait_for()
    expect(page.locator(".turn")).to_have_count(6)
    check(page, watcher)
    context.close()
