"""What a customer sees of money in Chromium, on a phone and on a desk: a payment that fails, a plan with an own model
key, a balance that runs out.

The whole installation runs: web, proxy, worker and the sandbox vendor with its courier; gateways are folders. Days
pass by the installation's clock.
"""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from clawhaven import wiring
from clawhaven.accounts import signup
from clawhaven.billing import checkouts, subscriptions
from clawhaven.billing.models import Subscription
from clawhaven.context import Context
from clawhaven.core.settings import Settings
from clawhaven.instances.config import SECRETS_PATH
from clawhaven.ports.gateway import ChatEvent, GatewayAddress
from clawhaven.ports.notifier import Message
from clawhaven.workflows import dunning, topups
from tests.fakes.world import FolderGateway, FolderRuntime
from tests.web.browser import LOOKS, Watcher, check, open_chromium
from tests.web.conftest import Visit, draft, state_of

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(240),
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
    pytest.mark.parametrize("look", ["phone-dark", "desk-light"]),
]

EMAIL = "frida@example.com"
T = TypeVar("T")
OWN_KEY = "sk-sandbox-customers-1234"
LONG = "You remember everything that was ever said. " * 1000
"""Instructions of 11,000 tokens: a message costs five cents, and fourteen are set aside while it is answered."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for all tests here."""
    with open_chromium() as browser:
        yield browser


class LetterBox:
    """Every letter that was sent."""

    name = "box"

    def __init__(self) -> None:
        self.letters: list[Message] = []

    def send(self, message: Message) -> None:
        self.letters.append(message)

    def find(self, words: str) -> list[str]:
        """What these words match in each letter that has them, the newest last."""
        return [found.group() for one in self.letters if (found := re.search(words, one.text))]


@pytest.fixture
def box() -> LetterBox:
    """Where letters arrive."""
    return LetterBox()


class AskingGateway(FolderGateway):
    """Asks the sandbox model through our proxy, as OpenClaw does: with the folder's key and a long prompt."""

    def __init__(self, runtime: FolderRuntime, proxy_url: str) -> None:
        super().__init__(runtime)
        self.proxy_url = proxy_url

    def chat(
        self, address: GatewayAddress, session: str, message: str, idempotency_key: str, timeout_seconds: float = 300
    ) -> Iterator[ChatEvent]:
        folder = Path(address.url.removeprefix("folder://"))
        key = json.loads((folder / SECRETS_PATH).read_text())["house"]["key"]
        asked = [{"role": "user", "content": message}]
        answer = httpx2.post(
            f"{self.proxy_url}/v1/messages",
            json={"model": "sandbox-1", "max_tokens": 100, "system": LONG, "messages": asked},
            headers={"x-api-key": key, "traceparent": f"00-{self.trace_id(idempotency_key)}-{'1' * 16}-01"},
            timeout=timeout_seconds,
            trust_env=False,
        )
        yield ChatEvent("final", answer.raise_for_status().json()["content"][0]["text"])


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With a line so high that a metered plan's credit is enough for two messages."""
    return settings.model_copy(update={"wallet_minimum": Decimal("9.80"), "low_balance_margin": Decimal("0.12")})


@pytest.fixture
def ctx(ctx: Context, box: LetterBox, world: FolderRuntime) -> Context:
    """With that letter box instead of the console, and gateways that cost something."""
    gateway = AskingGateway(world, f"{ctx.settings.base_url}/proxy")
    return dataclasses.replace(ctx, notifier=box, gateway=wiring.Guarded(gateway))


class Customer:
    """Somebody with a browser and a letter box."""

    def __init__(self, ctx: Context, browser: BrowserContext, box: LetterBox) -> None:
        self.ctx, self.browser, self.box, self.page = ctx, browser, box, browser.new_page()
        self.watcher = Watcher(browser)
        with ctx.db.tx() as db:
            self.owner = signup.register(db, EMAIL, ctx.clock.now())
        self.visit = Visit(ctx)
        self.visit.sign_in(self.owner)
        self._bring_cookies()

    def open(self, path: str) -> Page:
        """Go there, and find nothing wrong with the page."""
        self.page.goto(self.ctx.settings.base_url + path)
        check(self.page, self.watcher)
        return self.page

    def sign_in_again(self) -> None:
        """By the newest mailed link, as after weeks."""
        self.page.get_by_label("Your email").fill(EMAIL)
        self.page.get_by_role("button", name=re.compile("link", re.I)).click()
        self.page.wait_for_load_state()
        link = wait(
            lambda: re.search(r"/sign-in/[\w-]{40,}", self.visit.letters(EMAIL)[-1]), "the letter with the link"
        )
        self.page.goto(self.ctx.settings.base_url + link.group())  # type: ignore[union-attr]
        self.page.locator("main form button").first.click()
        self.page.wait_for_load_state()

    def agreement(self) -> Subscription:
        """What pays for the assistant."""
        with self.ctx.db.read() as db:
            (found,) = subscriptions.of_account(db, self.owner.account.id)
        return found

    def _bring_cookies(self) -> None:
        base = self.ctx.settings.base_url
        jar = self.visit.http.cookies.jar
        self.browser.add_cookies([{"name": one.name, "value": one.value or "", "url": base} for one in jar])


def wait(ask: Callable[[], T], what: str, seconds: float = 60) -> T:
    """What `ask` says as soon as it is not false."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := ask():
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited in vain for {what}")


@pytest.fixture
def customer(served: Context, chromium: Browser, box: LetterBox, look: str) -> Iterator[Customer]:
    """A customer on a phone or at a desk."""
    context = chromium.new_context(**dict(LOOKS)[look])
    yield Customer(served, context, box)
    context.close()


def sandbox(ctx: Context) -> Any:
    """The payment vendor, with its buttons."""
    return ctx.payments["sandbox"]


def bought(customer: Customer, plan: str = "personal") -> str:
    """The id of a paid assistant that runs."""
    ctx = customer.ctx
    instance_id = draft(customer.visit, assistant_name="Frieda", plan=plan)
    with ctx.db.read() as db:
        found = checkouts.of_instance(db, instance_id)
    assert found is not None
    sandbox(ctx).complete(found.reference, "paid")
    wait(lambda: state_of(ctx, instance_id) == "active", "the assistant")
    return instance_id


def fail_to_pay(customer: Customer) -> None:
    """The saved card declines from now on, and the plan is to be renewed."""
    vendor, agreement = sandbox(customer.ctx), customer.agreement()
    with customer.ctx.db.read() as db:
        bought = str(checkouts.get(db, agreement.checkout_id).reference)
    portal = vendor.portal_url(vendor.fetch(bought).customer_reference, "/billing")
    vendor.use_portal_card(portal.rpartition("/")[2], "declined")
    vendor.bill(agreement.reference)
    wait(lambda: customer.agreement().state == "past_due", "the news of the failed payment")


def pass_days(ctx: Context, days: float) -> None:
    """Time passes for us and for the vendor, and the sweep looks at who owes."""
    ctx.clock.advance(timedelta(days=days))
    dunning.sweep(ctx)


def test_a_failed_payment_pauses_and_paying_brings_everything_back(customer: Customer, world: FolderRuntime) -> None:
    ctx = customer.ctx
    instance_id = bought(customer)

    fail_to_pay(customer)
    wait(lambda: customer.box.find("We could not collect the payment"), "the letter")
    page = customer.open("/dashboard")
    expect(page.get_by_text("Assistants are paused on")).to_be_visible()
    page.get_by_role("link", name="What to do").click()
    expect(page.get_by_role("link", name="Pay what is owed")).to_be_visible()
    customer.open(f"/instances/{instance_id}/chat")
    assert state_of(ctx, instance_id) == "active", "it goes on during the grace"

    pass_days(ctx, ctx.settings.grace_days + 0.1)
    wait(lambda: state_of(ctx, instance_id) == "suspended", "the pause")
    wait(lambda: not (world.root / instance_id / "RUNNING").exists(), "the gateway to stop")
    customer.page.goto(f"{ctx.settings.base_url}/instances/{instance_id}")
    expect(customer.page.get_by_label("Your email")).to_be_visible()  # the sign-in of weeks ago is over
    customer.sign_in_again()
    page = customer.open("/dashboard")
    expect(page.get_by_text("Everything is kept until")).to_be_visible()
    for tab in ("", "/chat", "/logs", "/channels", "/configuration", "/usage"):
        customer.open(f"/instances/{instance_id}{tab}")
    page = customer.open("/billing")
    page.get_by_role("link", name="Pay what is owed").click()
    page.wait_for_url("**/sandbox/invoice/*")
    page.get_by_role("button", name=re.compile("^Pay")).click()
    page.wait_for_load_state()

    wait(lambda: state_of(ctx, instance_id) == "active", "the return")
    assert (world.root / instance_id / "RUNNING").exists(), "active means that it runs"
    page = customer.open("/dashboard")
    expect(page.get_by_text("Everything is kept until")).to_have_count(0)

    page = customer.open("/billing")
    page.get_by_text("Cancel the plan", exact=True).first.click()
    page.get_by_role("button", name="Cancel the plan").click()
    expect(page.get_by_role("button", name="Keep the plan after all")).to_be_visible()
    wait(lambda: customer.agreement().is_ending, "the cancellation")
    page.get_by_role("button", name="Keep the plan after all").click()
    expect(page.get_by_text("Cancel the plan", exact=True).first).to_be_visible()
    assert not customer.agreement().is_ending
    assert state_of(ctx, instance_id) == "active"


def test_who_does_not_pay_loses_it_on_the_announced_day(customer: Customer, world: FolderRuntime) -> None:
    ctx = customer.ctx
    instance_id = bought(customer)
    fail_to_pay(customer)
    pass_days(ctx, ctx.settings.grace_days + 0.1)
    wait(lambda: state_of(ctx, instance_id) == "suspended", "the pause")
    ctx.clock.advance(timedelta(days=ctx.settings.deletion_days))
    wait(lambda: dunning.sweep(ctx) < 0 or state_of(ctx, instance_id) == "deleted", "the deletion", 90)
    assert not (world.root / instance_id).exists()
    wait(lambda: customer.agreement().state == "canceled", "the agreement's end: nobody pays for what is gone")
    customer.page.goto(f"{ctx.settings.base_url}/dashboard")
    customer.sign_in_again()
    customer.watcher.expected = ("404 (Not Found)", "410 (Gone)")
    page = customer.open(f"/instances/{instance_id}")
    expect(page.get_by_role("heading", level=1)).to_be_visible()


def test_own_key_is_tested_and_nothing_is_charged_per_token(customer: Customer, world: FolderRuntime) -> None:
    instance_id = bought(customer, plan="monthly")
    page = customer.open(f"/instances/{instance_id}/configuration")
    customer.watcher.expected = ("400 (Bad Request)",)
    page.get_by_label("API key").fill("nonsense")
    page.get_by_role("button", name="Test and save").click()
    expect(page.get_by_role("alert").first).to_be_visible()
    page.get_by_label("API key").fill(OWN_KEY)
    page.get_by_role("button", name="Test and save").click()
    expect(page.get_by_text("The key works and is in use")).to_be_visible()
    assert OWN_KEY not in page.content()
    customer.open("/usage")
    assert customer.page.get_by_text("$0.00").first.is_visible()


def say(page: Page, words: str, answer: str) -> None:
    """Write to the assistant on its page, and read what it says."""
    page.get_by_label("Your message").fill(words)
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".turn:not(.mine) .words").last).to_contain_text(answer)
    expect(page.get_by_role("button", name="Send")).to_be_enabled()


def test_an_empty_balance_pauses_and_a_topup_brings_it_back(customer: Customer, world: FolderRuntime) -> None:
    ctx = customer.ctx
    instance_id = bought(customer, plan="metered")
    low, used_up = "Your balance is running low.", "Your balance is down to its minimum"

    page = customer.open(f"/instances/{instance_id}/chat")
    say(page, "the first riddle", "the first riddle")
    expect(page.get_by_text("1 model call, $0.05")).to_be_visible()
    topups.sweep(ctx)
    page = customer.open("/dashboard")
    expect(page.get_by_text(low)).to_have_count(0)

    page = customer.open(f"/instances/{instance_id}/chat")
    say(page, "the second riddle", "the second riddle")
    topups.sweep(ctx)
    page = customer.open("/dashboard")
    expect(page.get_by_text(low)).to_be_visible()
    wait(lambda: customer.box.find("Your balance is .*above"), "the letter that warns")

    ctx.clock.advance(timedelta(minutes=10))  # what is refused right after a credit was on its way with it
    page = customer.open(f"/instances/{instance_id}/chat")
    say(page, "the third riddle", f"Top up here, then write again: {ctx.settings.base_url}/topup")
    topups.sweep(ctx)
    page = customer.open("/dashboard")
    expect(page.get_by_text(used_up)).to_be_visible()
    wait(lambda: customer.box.find("your assistants go on by themselves"), "the letter that it is used up")
    assert state_of(ctx, instance_id) == "active", "it stays up for a while, to say so"

    ctx.clock.advance(timedelta(minutes=ctx.settings.depleted_grace_minutes + 1))
    topups.sweep(ctx)
    wait(lambda: state_of(ctx, instance_id) == "suspended", "the pause")
    wait(lambda: not (world.root / instance_id / "RUNNING").exists(), "the gateway to stop")
    wait(lambda: customer.box.find("Frieda is paused"), "the letter of the pause")
    page = customer.open("/dashboard")
    expect(page.get_by_text(used_up)).to_be_visible()
    page.get_by_role("link", name="Open Frieda").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile(r"^\s*Frieda\s+Paused\s*$"))
    for tab in ("/chat", "/usage", ""):
        page = customer.open(f"/instances/{instance_id}{tab}")
        expect(page.get_by_text("It starts by itself after a top-up; everything is kept.").first).to_be_visible()

    page.locator("main .notice").get_by_role("link", name="Top up").first.click()
    page.get_by_role("radio", name="$25").check()
    page.get_by_role("button", name="Continue to payment").click()
    page.wait_for_url("**/sandbox/checkout/*")
    page.get_by_role("button", name="Pay $25").click()
    page.wait_for_url(re.compile("/topup/"))
    expect(page.get_by_text("Your balance is $34.8")).to_be_visible(timeout=30_000)
    check(page, customer.watcher)
    wait(lambda: state_of(ctx, instance_id) == "active", "the return, by itself")
    wait(lambda: customer.box.find("Frieda runs again"), "the letter of the return")
    page.get_by_role("link", name="To your assistants").click()
    expect(page.get_by_text("Live", exact=True).first).to_be_visible()
    expect(page.get_by_text(used_up)).to_have_count(0)
    page = customer.open(f"/instances/{instance_id}/chat")
    say(page, "the fourth riddle", "the fourth riddle")

    page = customer.open("/ledger")
    rows = page.locator("#movements-rows tr")
    expect(rows.filter(has_text=re.compile(r"^\s*Usage"))).to_have_count(3)
    expect(rows.filter(has_text=re.compile(r"^\s*Top-up"))).to_contain_text("+$25.00")
    expect(page.get_by_text("$34.8").first).to_be_visible()
