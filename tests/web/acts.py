"""What is done on a page before it is looked at."""

from __future__ import annotations

import re

from playwright.sync_api import Page


def send_wrong_sign_up(page: Page) -> None:
    page.get_by_label("Your email").fill("nobody")
    page.locator("main form button[type=submit]").last.click()
    page.get_by_role("alert").first.wait_for()


def send_no_name(page: Page) -> None:
    page.get_by_label("Name of the assistant").fill("")
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("alert").first.wait_for()


def try_it(page: Page) -> None:
    page.get_by_label("Your message").fill("What can you do for me?")
    page.locator("#trial button").click()
    page.locator("#trial-talk .turn:not(.mine) .words").last.filter(has_text="You said").wait_for()
    page.locator("#trial-talk [aria-busy]").wait_for(state="detached")


def join(page: Page) -> None:
    page.get_by_label("Your email").fill("late@example.com")
    page.locator("main form button[type=submit]").click()
    page.wait_for_load_state()


def ask_for_link(page: Page) -> None:
    page.get_by_label("Your email").fill("alice@example.com")
    page.get_by_role("button", name=re.compile("link", re.I)).click()
    page.wait_for_load_state()


def send_wrong_address(page: Page) -> None:
    page.get_by_label("New email").fill("nobody")
    page.get_by_role("button", name="Mail the link").click()
    page.get_by_role("alert").first.wait_for()


def make_key(page: Page) -> None:
    page.get_by_label("Name").fill("Laptop")
    page.get_by_role("button", name="Make the key").click()
    page.get_by_role("alert").first.wait_for()


def open_menu(page: Page) -> None:
    page.locator("[data-menu] > summary").click()


def send_signed_out(page: Page) -> None:
    """The session ends while somebody writes."""
    with page.expect_response("**/preview"):
        page.get_by_label("What should it do for you?").fill("Plan my week with me, one question at a time.")
    cookies = page.context.cookies()
    page.context.clear_cookies()
    page.get_by_role("button", name="Continue").click()
    page.get_by_text("Copy it, sign in").wait_for()
    page.context.add_cookies([{**one} for one in cookies])  # type: ignore[typeddict-item]
