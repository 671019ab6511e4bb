"""Chromium for tests: the looks a page is seen in, and what is asked of every page."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

from assets import build
from tests.conftest import skip_or_fail

REPO = Path(__file__).resolve().parents[2]
CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LOOKS: list[tuple[str, dict[str, Any]]] = [
    (f"{name}-{scheme}", {"viewport": size, "color_scheme": scheme})
    for name, size in (("phone", {"width": 390, "height": 844}), ("desk", {"width": 1280, "height": 800}))
    for scheme in ("light", "dark")
]
WORST = ("serious", "critical")


@contextmanager
def open_chromium() -> Iterator[Browser]:
    """One browser; without it the test is skipped."""
    if not CHROMIUM.exists():
        skip_or_fail("Chromium was not found", "apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def shots_folder() -> Path:
    """Where screenshots go."""
    folder = REPO / os.environ.get("CLAWHAVEN_SCREENSHOTS", "build/screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def axe_source() -> str:
    """axe-core, of the version and hash in assets/package-lock.json."""
    path = build.MODULES / "axe-core" / "axe.min.js"
    if not build.is_installed() or not path.exists():
        skip_or_fail("axe-core was not found", "make css")
    return path.read_text()


class Watcher:
    """Collects what a page complains about."""

    def __init__(self, context: BrowserContext) -> None:
        self.complaints: list[str] = []
        self.expected: tuple[str, ...] = ()
        context.on("console", self._hear)
        context.on("weberror", lambda error: self.complaints.append(str(error.error)))
        context.on("requestfailed", self._fail)

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not any(word in message.text for word in self.expected):
            self.complaints.append(f"{message.type}: {message.text}")

    def _fail(self, request: Request) -> None:
        # Chromium now and then calls a stream aborted that it has read to its end, or that its page has left.
        is_stream = "event-stream" in request.headers.get("accept", "")
        is_icon = "/favicon" in request.url  # loaded whenever the browser likes, and left with the page
        if not ((is_stream or is_icon) and request.failure == "net::ERR_ABORTED"):
            self.complaints.append(f"{request.url}: {request.failure}")


def faults(page: Page, watcher: Watcher) -> list[str]:
    """What is wrong with the page: complaints, anything wider than the screen, headings, fields without a label."""
    found = [f"complaint: {text}" for text in watcher.complaints]
    watcher.complaints.clear()
    if not page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"):
        found.append("wider than the screen")
    if (headings := page.locator("h1").count()) != 1:
        found.append(f"{headings} first headings")
    nameless = page.evaluate(
        """[...document.querySelectorAll("input:not([type=hidden]), textarea, select")]
           .filter(field => !field.labels.length).map(field => field.name)"""
    )
    found += [f"no label: {name}" for name in nameless]
    return found


def check(page: Page, watcher: Watcher) -> None:
    """No fault."""
    found = faults(page, watcher)
    assert found == [], f"{page.url}: {found}"


def barriers(page: Page, source: str) -> list[str]:
    """What axe finds that is serious or critical, a line each."""
    page.evaluate(source)
    result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{one['impact']}: {one['id']}: {one['help']}: {node['html'][:140]} {node['failureSummary'][:200]!r}"
        for one in result["violations"]
        if one["impact"] in WORST
        for node in one["nodes"][:3]
    ]
