"""The wizard walked by hand in Chromium."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import Page, expect


def begin(page: Page, base: str, email: str, plan: str = "") -> None:
    """From the landing page to the assistant's step."""
    page.goto(base)
    page.get_by_label("Your email").fill(email)
    page.get_by_role("button", name="Get my assistant").click()
    expect(page.get_by_label("Your email")).to_have_value(email)
    if plan:
        page.get_by_role("radio", name=re.compile(f"^{plan}:")).check()
    page.get_by_role("button", name="Continue").click()
    page.wait_for_url("**/configure/assistant")


def describe(page: Page, name: str = "Ada", words: str = "Help me plan <b>my</b> week.") -> None:
    """Name and instructions, and the model as it is."""
    page.get_by_label("Name of the assistant").fill(name)
    page.get_by_label("What should it do for you?").fill(words)
    page.get_by_role("button", name="Continue").click()
    page.wait_for_url("**/configure/model")


def connect(page: Page, token: str = "") -> None:
    """A bot, or none; up to the review."""
    if token:
        page.get_by_label("Telegram: bot token").fill(token)
        page.get_by_role("button", name="Test and connect").click()
        page.get_by_text("Connected", exact=True).wait_for()
        page.get_by_role("button", name="Continue").click()
    else:
        page.get_by_role("button", name="Skip for now").click()
    page.wait_for_url("**/configure/skills")
    page.get_by_role("button", name="Continue").click()
    page.wait_for_url("**/configure/review")


def pay(page: Page) -> str:
    """From the review through the sandbox's page; returns the instance's id."""
    page.get_by_role("button", name="Continue to payment").click()
    page.wait_for_url("**/sandbox/checkout/*")
    page.get_by_role("button", name="Pay $").click()
    page.wait_for_url(re.compile("/(deploying|ready)/"))
    return page.url.rsplit("/", 1)[1].partition("?")[0]


def sign_up(page: Page, base: str, email: str, token: str = "", **choices: Any) -> str:
    """The whole way from the landing page until it is paid; returns the instance's id."""
    begin(page, base, email, **choices)
    describe(page)
    page.get_by_role("button", name="Continue").click()
    page.wait_for_url("**/configure/channel")
    connect(page, token)
    return pay(page)
