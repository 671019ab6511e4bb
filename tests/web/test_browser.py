"""Every page in Chromium: phone and desk, light and dark, nothing on the console, nothing beyond the edge."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

from clawhaven.billing import checkouts
from clawhaven.context import Context
from clawhaven.core.ids import new_id
from clawhaven.instances.models import Instance
from clawhaven.metering.models import UsageRow
from tests.conftest import skip_or_fail
from tests.fakes.world import FolderRuntime
from tests.live.telegram_methods import Bot
from tests.web.conftest import TOKEN, Visit

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

pytestmark = [pytest.mark.live, pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for all tests here."""
    if not CHROMIUM.exists():
        skip_or_fail("Chromium was not found", "apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def shots() -> Path:
    """Where screenshots go."""
    folder = REPO / os.environ.get("CLAWHAVEN_SCREENSHOTS", "build/screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


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
        if not (is_stream and request.failure == "net::ERR_ABORTED"):
            self.complaints.append(f"{request.url}: {request.failure}")


def check(page: Page, watcher: Watcher) -> None:
    """No complaint, nothing wider than the screen, one first heading, every field labelled."""
    assert watcher.complaints == [], page.url
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{page.url} is too wide"
    assert page.locator("h1").count() == 1, page.url
    nameless = page.evaluate(
        """[...document.querySelectorAll("input:not([type=hidden]), textarea, select")]
           .filter(field => !field.labels.length).map(field => field.name)"""
    )
    assert nameless == [], page.url


def sign_up_by_hand(page: Page, base: str, email: str) -> str:
    """From the landing page to the payment page; returns the instance's id once it is paid."""
    page.goto(base)
    page.get_by_label("Your email").fill(email)
    page.get_by_role("button", name="Get my assistant").click()
    assert page.get_by_label("Your email").input_value() == email
    page.get_by_label("Name of the assistant").fill("Ada")
    page.get_by_label("What should it do for you?").fill("Help me plan <b>my</b> week.")
    page.get_by_label("Telegram: bot token").fill(TOKEN)
    page.get_by_role("button", name="Continue to payment").click()
    page.wait_for_url("**/sandbox/checkout/*")
    page.get_by_role("button", name="Pay $29").click()
    page.wait_for_url(re.compile("/(deploying|ready)/"))
    return page.url.rsplit("/", 1)[1].partition("?")[0]


def test_every_page_in_every_look(
    served: Context, world: FolderRuntime, bot: Bot, chromium: Browser, shots: Path
) -> None:
    base = served.settings.base_url
    world.boot_seconds = 1.0
    first = chromium.new_context(**LOOKS[0][1])
    watcher = Watcher(first)
    page = first.new_page()
    instance_id = sign_up_by_hand(page, base, "alice@example.com")
    page.wait_for_url("**/ready/*", timeout=60_000)
    check(page, watcher)
    state = first.storage_state()
    first.close()
    use_it_for_a_while(served, instance_id)

    mine = f"/instances/{instance_id}"
    visit = Visit(served)
    waiting = pending_instance(visit)
    public = ["/", "/configure", "/waitlist", "/sign-in", "/sign-in/" + "x" * 43, "/nothing", f"/deploying/{waiting}"]
    public += [vendor_page(served, waiting), "/sandbox", *money_pages(served, instance_id)]
    own = ["/dashboard", "/usage", "/ledger", f"/ready/{instance_id}", mine]
    own += [f"{mine}/{tab}" for tab in ("chat", "channels", "configuration", "usage", "logs", "history")]
    for look, options in LOOKS:
        for paths, stored in ((public, None), (own, state)):
            context = chromium.new_context(**options, storage_state=stored)
            watcher = Watcher(context)
            watcher.expected = ("404 (Not Found)",)
            page = context.new_page()
            for path in paths:
                page.goto(base + path)
                name = re.sub(r"(ins|sco|spor|sinv)_\w+|x{43}", "one", path).strip("/").replace("/", "-") or "landing"
                page.screenshot(path=shots / f"{name}-{look}.png", full_page=True)
                check(page, watcher)
            if stored is None:
                watcher.expected += ("400 (Bad Request)",)
                page.goto(f"{base}/configure")
                page.get_by_label("Your email").fill("nobody")
                page.get_by_role("button", name="Continue to payment").click()
                page.get_by_role("alert").wait_for()
                page.screenshot(path=shots / f"configure-wrong-{look}.png", full_page=True)
                check(page, watcher)
            context.close()


def test_chat_grows_and_stays_text(served: Context, world: FolderRuntime, bot: Bot, chromium: Browser) -> None:
    context = chromium.new_context(**LOOKS[0][1])
    watcher = Watcher(context)
    page = context.new_page()
    instance_id = sign_up_by_hand(page, served.settings.base_url, "bob@example.com")
    page.wait_for_url("**/ready/*", timeout=60_000)
    page.get_by_role("link", name="Say hello in the browser").click()
    box = page.get_by_label("Your message")
    for words in ("hello", "<img src=x onerror=alert(1)>"):
        box.fill(words)
        box.press("Enter")
        page.get_by_text(f"You said: {words}", exact=True).wait_for()
        page.wait_for_function("!document.querySelector('#say button').disabled")
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


def test_the_whole_way_without_javascript(served: Context, bot: Bot, chromium: Browser) -> None:
    context = chromium.new_context(**LOOKS[0][1], java_script_enabled=False)
    page = context.new_page()
    sign_up_by_hand(page, served.settings.base_url, "carol@example.com")
    page.wait_for_url("**/ready/*", timeout=60_000)  # the page refreshes itself
    page.get_by_role("link", name="Say hello in the browser").click()
    page.get_by_label("Your message").fill("hello")
    page.get_by_role("button", name="Send").click()
    page.get_by_text("You said: hello").wait_for()
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
    page.get_by_label("Name of the assistant").focus()
    page.keyboard.type("Ada")
    page.keyboard.press("Enter")
    page.wait_for_url("**/sandbox/checkout/*")
    page.get_by_role("button", name="Pay").focus()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/(deploying|ready)/"))
    context.close()


def pending_instance(visit: Visit) -> str:
    """A stranger's draft, not paid yet."""
    fields = {"email": "erin@example.com", "assistant_name": "Bo", "persona": "dev", "plan": "personal"}
    assert visit.post("/configure", **fields).status_code == 303
    page = visit.get("/dashboard").text
    found = re.search(r"/instances/(ins_\w+)", page)
    assert found is not None
    return found.group(1)


def vendor_page(ctx: Context, instance_id: str) -> str:
    """The path of the sandbox vendor's page for this draft."""
    with ctx.db.read() as db:
        checkout = checkouts.of_instance(db, instance_id)
    assert checkout is not None
    return f"/sandbox/checkout/{checkout.reference}"


def money_pages(ctx: Context, instance_id: str) -> list[str]:
    """Paths of the sandbox vendor's pages for somebody who has paid: the portal and the newest invoice."""
    with ctx.db.read() as db:
        checkout = checkouts.of_instance(db, instance_id)
    assert checkout is not None
    vendor = ctx.payments["sandbox"]
    customer = vendor.fetch(str(checkout.reference)).customer_reference
    assert customer is not None
    urls = [vendor.portal_url(customer, ctx.settings.base_url), str(vendor.invoices(customer)[0].page_url)]
    return [url.removeprefix(ctx.settings.base_url) for url in urls]


def use_it_for_a_while(ctx: Context, instance_id: str) -> None:
    """Calls for the usage pages to show."""
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        account_id = db.get_one(Instance, instance_id).account_id
        for number in range(12):
            at = now.replace(day=1 + number * now.day // 13)
            db.add(
                UsageRow(
                    id=new_id("use"),
                    instance_id=instance_id,
                    account_id=account_id,
                    plan_mode="included",
                    model="claude-sonnet-5-5",
                    upstream="anthropic",
                    dialect="anthropic-messages",
                    price_id="p",
                    markup_percent=150,
                    state="closed",
                    source="person" if number % 3 else "automatic",
                    input_tokens=1200 + number,
                    output_tokens=340,
                    cache_read_tokens=9000,
                    price_micros=12_345 + number,
                    started_at=at,
                    ended_at=at,
                    expires_at=at,
                )
            )
