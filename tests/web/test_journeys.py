"""What people come for, walked in Chromium from the first page to the first answer: phone and desk, with scripts and
without. (The same with the real gateway and a model's every call in the books: tests/live/test_first_minute.py.)"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from sqlalchemy import select

from clawhaven.accounts import links
from clawhaven.accounts.signup import find_owner
from clawhaven.context import Context
from clawhaven.instances.models import Instance, OpenDraft
from tests.fakes.world import FolderRuntime
from tests.live.telegram_methods import Bot
from tests.web import walking
from tests.web.browser import LOOKS, Watcher, check, open_chromium
from tests.web.conftest import TOKEN

pytestmark = [pytest.mark.live, pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)]

PHONE, DESK = LOOKS[0][1], LOOKS[2][1]
BOTH = pytest.mark.parametrize("look", [PHONE, DESK], ids=["phone", "desk"])


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser for all tests here."""
    with open_chromium() as browser:
        yield browser


def sign_in_by_mail(ctx: Context, context: BrowserContext, email: str, first: str = "/sign-in") -> Page:
    """Ask for the mailed link in this browser and press its button; returns the page it leads to."""
    page = context.new_page()
    page.goto(ctx.settings.base_url + first)
    page.get_by_label("Your email").fill(email)
    page.get_by_role("button", name=re.compile("link", re.I)).click()
    page.wait_for_load_state()
    with ctx.db.tx() as db:  # the worker has sent the letter, and what is sent is forgotten: a link like the one in it
        owner = find_owner(db, email)
        assert owner is not None
        token = links.issue(db, owner.user.id, ctx.clock.now())
    page.goto(f"{ctx.settings.base_url}/sign-in/{token}")
    page.locator("main form button").click()
    page.wait_for_url(lambda url: "/sign-in" not in url)
    return page


def look_at_an_example(page: Page) -> None:
    """Examples and preview come by button where there are no scripts."""
    page.get_by_label("Name of the assistant").fill("Zoë")
    page.get_by_text("Examples to begin with").click()
    page.get_by_role("button", name="Use this Teach me something").click()
    expect(page.get_by_label("What should it do for you?")).to_have_value(re.compile("Teach me Spanish"))
    page.get_by_role("button", name="Show it with these words").click()
    expect(page.locator("[data-preview-user]")).to_contain_text("Teach me Spanish")


@pytest.mark.parametrize(
    ("look", "has_scripts"),
    [(PHONE, False), (PHONE, True), (DESK, True)],
    ids=["phone without scripts", "phone", "desk"],
)
def test_first_minute(served: Context, chromium: Browser, look: dict[str, object], has_scripts: bool) -> None:
    context = chromium.new_context(**look, java_script_enabled=has_scripts)  # type: ignore[arg-type]
    watcher, page = Watcher(context), context.new_page()
    walking.begin(page, served.settings.base_url, "ada@example.com")
    if not has_scripts:
        look_at_an_example(page)
    walking.describe(page)
    page.get_by_role("button", name="Continue").click()
    walking.connect(page)
    instance_id = walking.pay(page)
    page.wait_for_url(f"**/ready/{instance_id}", timeout=60_000)
    expect(page.get_by_role("heading", level=1)).to_have_text("Ada is ready")
    page.get_by_role("link", name="Say hello in the browser").click()
    page.get_by_label("Your message").fill("hello")
    page.get_by_role("button", name="Send").click()
    page.get_by_text("You said: hello").wait_for()
    page.goto(f"{served.settings.base_url}/dashboard")
    expect(page.get_by_role("heading", name="Ada")).to_be_visible()
    if has_scripts:
        check(page, watcher)
    context.close()


@pytest.mark.parametrize(
    ("look", "has_scripts"),
    [(PHONE, True), (DESK, True), (DESK, False)],
    ids=["phone", "desk", "desk without scripts"],
)
def test_flat_plan_with_telegram(
    served: Context, bot: Bot, chromium: Browser, look: dict[str, object], has_scripts: bool
) -> None:
    context = chromium.new_context(**look, java_script_enabled=has_scripts)  # type: ignore[arg-type]
    watcher, page = Watcher(context), context.new_page()
    watcher.expected = ("400 (Bad Request)",)
    walking.begin(page, served.settings.base_url, "bob@example.com", "Personal")
    walking.describe(page)
    page.get_by_role("button", name="Continue").click()
    page.get_by_label("Telegram: bot token").fill("not a token")
    page.get_by_role("button", name="Test and connect").click()
    expect(page.locator("#telegram_bot_token-error")).to_be_visible()
    walking.connect(page, TOKEN)
    expect(page.get_by_text("@ada_haven_bot")).to_be_visible()
    if has_scripts:
        check(page, watcher)
    instance_id = walking.pay(page)
    page.wait_for_url(f"**/ready/{instance_id}", timeout=60_000)
    opener = page.get_by_role("link", name="Open in Telegram")
    assert str(opener.get_attribute("href")).startswith("https://t.me/ada_haven_bot?start=")
    expect(page.get_by_role("img", name="QR code of the link to the bot")).to_be_visible()
    if has_scripts:
        check(page, watcher)
    context.close()


@pytest.mark.parametrize(("begun_on", "look"), [(DESK, PHONE), (PHONE, DESK)], ids=["phone", "desk"])
def test_metered_plan(served: Context, chromium: Browser, begun_on: dict[str, object], look: dict[str, object]) -> None:
    """Begin elsewhere, sign in, choose, pay; the first top-up on the way; then it answers."""
    elsewhere = chromium.new_context(**begun_on)  # type: ignore[arg-type]
    begun, page = Watcher(elsewhere), elsewhere.new_page()
    walking.begin(page, served.settings.base_url, "carol@example.com", "Metered")
    page.get_by_role("link", name="Save and leave").click()
    page.wait_for_url("**/dashboard")
    check(page, begun)
    context = chromium.new_context(**look)  # type: ignore[arg-type]
    watcher = Watcher(context)
    page = sign_in_by_mail(served, context, "carol@example.com", "/sign-in?next=/configure")
    page.wait_for_url("**/configure/assistant")
    walking.describe(page, "Grace")
    page.get_by_role("button", name="Continue").click()
    walking.connect(page)
    instance_id = walking.pay(page)
    page.wait_for_url(f"**/ready/{instance_id}", timeout=60_000)
    expect(page.get_by_role("heading", name="One step left: your first top-up")).to_be_visible()
    page.get_by_role("link", name="Top up").first.click()
    page.get_by_role("radio", name="$25").check()
    page.get_by_role("button", name="Continue to payment").click()
    page.wait_for_url("**/sandbox/checkout/*")
    page.get_by_role("button", name="Pay $25").click()
    page.wait_for_url(re.compile(r"/topup/"))
    expect(page.get_by_text("Your balance is $35.00.")).to_be_visible(timeout=30_000)
    page.goto(f"{served.settings.base_url}/instances/{instance_id}/chat")
    page.get_by_label("Your message").fill("hello")
    page.get_by_role("button", name="Send").click()
    page.get_by_text("You said: hello").wait_for()
    check(page, watcher)
    context.close()
    elsewhere.close()


@BOTH
def test_own_key_is_tested_while_one_waits(
    served: Context, world: FolderRuntime, chromium: Browser, look: dict[str, object]
) -> None:
    """And where something on the way keeps streams back, the steps come all the same."""
    world.boot_seconds = 1.0
    context = chromium.new_context(**look)  # type: ignore[arg-type]
    watcher, page = Watcher(context), context.new_page()
    page.route("**/deploying/*/events", lambda route: route.abort())
    watcher.expected = ("400 (Bad Request)",)
    walking.begin(page, served.settings.base_url, "dora@example.com", "Own key, yearly")
    walking.describe(page)
    key = page.get_by_label("API key")
    key.fill("sk-sandbox-")
    page.get_by_role("button", name="Test the key").click()
    expect(page.locator("#api_key-error")).to_be_visible()
    expect(key).to_have_value("")
    key.fill("sk-sandbox-mine-4711")
    page.get_by_role("button", name="Test the key").click()
    page.get_by_text("The key works.").wait_for()
    check(page, watcher)
    page.get_by_role("button", name="Continue").click()
    walking.connect(page)
    expect(page.get_by_text("that ends in 4711")).to_be_visible()
    instance_id = walking.pay(page)
    page.wait_for_url(f"**/ready/{instance_id}", timeout=60_000)
    expect(page.get_by_text("One step left")).to_have_count(0)
    context.close()


def test_the_preview_follows_the_typing_and_survives_a_reload(served: Context, chromium: Browser) -> None:
    context = chromium.new_context(**DESK)
    watcher, page = Watcher(context), context.new_page()
    walking.begin(page, served.settings.base_url, "edith@example.com")
    soul, user = page.locator("[data-preview-soul]"), page.locator("[data-preview-user]")
    page.get_by_label("Name of the assistant").fill("Zoë <i>")
    page.get_by_label("Name of the assistant").fill("Zoë")
    expect(soul).to_contain_text("You are Zoë, a personal assistant.")
    page.get_by_text("Examples to begin with").click()
    page.get_by_role("button", name="Use this Plan my week").click()
    expect(user).to_contain_text("Help me plan my week.")
    page.get_by_label("What should it do for you?").fill("<img src=x onerror=alert(1)>")
    expect(user).to_contain_text("<img src=x onerror=alert(1)>")
    assert page.locator("pre img").count() == 0
    page.get_by_role("radio", name="Custom").check()
    expect(soul).to_contain_text("<img src=x")
    page.reload()
    expect(page.get_by_label("Name of the assistant")).to_have_value("Zoë")
    expect(page.get_by_role("radio", name="Custom")).to_be_checked()
    check(page, watcher)
    context.close()


def test_back_and_leaving_lose_nothing_and_order_nothing_twice(served: Context, chromium: Browser) -> None:
    context = chromium.new_context(**DESK)
    page = context.new_page()
    walking.begin(page, served.settings.base_url, "gina@example.com")
    walking.describe(page)
    page.go_back()
    expect(page.get_by_label("Name of the assistant")).to_have_value("Ada")
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("button", name="Continue").click()
    walking.connect(page)
    page.close()
    page = context.new_page()
    page.goto(f"{served.settings.base_url}/configure")
    page.wait_for_url("**/configure/review")
    page.get_by_role("button", name="Continue to payment").click()
    page.wait_for_url("**/sandbox/checkout/*")
    page.go_back()
    page.wait_for_url("**/deploying/*")
    page.get_by_role("link", name="Finish the payment").click()
    page.wait_for_url("**/sandbox/checkout/*")
    with served.db.read() as db:
        assert len(db.scalars(select(Instance)).all()) == 1
        assert db.scalars(select(OpenDraft)).all() == []
    context.close()


def test_a_failure_is_told_live_and_gives_the_money_back(
    served: Context, world: FolderRuntime, chromium: Browser
) -> None:
    (world.root / "DISK_FULL").touch()
    context = chromium.new_context(**PHONE)
    watcher, page = Watcher(context), context.new_page()
    instance_id = walking.sign_up(page, served.settings.base_url, "hedy@example.com")
    page.get_by_role("heading", name="That did not work").wait_for(timeout=60_000)
    expect(page.get_by_text("The server's disk is full.")).to_be_visible()
    (world.root / "DISK_FULL").unlink()
    page.get_by_role("button", name="Give up and get $29.00 back").click()
    expect(page.get_by_text("$29.00 goes back the way it came.")).to_be_visible()
    check(page, watcher)
    with served.db.read() as db:
        owner = find_owner(db, "hedy@example.com")
        assert owner is not None
        assert db.get_one(Instance, instance_id).account_id == owner.account.id
    context.close()
