"""What the landing page costs a visitor: bytes over the wire, who is asked, and that nothing moves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from clawhaven.context import Context
from tests.web.browser import open_chromium
from tests.web.gallery import serving

pytestmark = [pytest.mark.live, pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)]

MOST_BYTES = 100_000
SHIFTS = """
window.shifted = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifted += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with open_chromium() as browser:
        yield browser


def weigh(page: Page, url: str) -> tuple[dict[str, int], set[str]]:
    """Address -> bytes over the wire, headers included, of everything that loading a page fetches; and the hosts."""
    sizes: dict[str, int] = {}
    addresses: dict[str, str] = {}
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Network.setCacheDisabled", {"cacheDisabled": True})
    session.on("Network.requestWillBeSent", lambda told: addresses.update({told["requestId"]: told["request"]["url"]}))
    session.on(
        "Network.loadingFinished",
        lambda told: sizes.update({addresses[told["requestId"]]: int(told["encodedDataLength"])}),
    )
    page.goto(url, wait_until="networkidle")
    return sizes, {address.split("/")[2] for address in addresses.values() if address.startswith("http")}


@pytest.mark.parametrize("path", ["/", "/pricing", "/docs", "/docs/telegram"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_public_page_is_light_and_still(ctx: Context, chromium: Browser, path: str, width: int) -> None:
    with serving(ctx):
        context = chromium.new_context(viewport={"width": width, "height": 800})
        page = context.new_page()
        page.add_init_script(SHIFTS)
        sizes, hosts = weigh(page, ctx.settings.base_url + path)
        total = sum(sizes.values())
        assert len(sizes) >= 3, "nothing was weighed"
        assert 10_000 < total <= MOST_BYTES, sizes
        assert hosts == {ctx.settings.base_url.split("/")[2]}
        page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
        page.wait_for_timeout(200)
        assert page.evaluate("window.shifted") == 0
        context.close()


def test_files_of_a_version_are_packed_and_kept_for_good(ctx: Context, chromium: Browser) -> None:
    with serving(ctx):
        context = chromium.new_context()
        page = context.new_page()
        kept: dict[str, tuple[str, str]] = {}
        page.on(
            "response",
            lambda told: kept.update(
                {told.url: (told.headers.get("cache-control", ""), told.headers.get("content-encoding", ""))}
            ),
        )
        page.goto(ctx.settings.base_url, wait_until="networkidle")
        files = {url: found for url, found in kept.items() if "/static/" in url}
        assert len(files) >= 3
        for url, (caching, packing) in files.items():
            assert "immutable" in caching, url
            assert packing == "gzip", url
        context.close()
