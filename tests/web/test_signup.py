"""The form from email to payment page, its errors, and the waitlist."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, cast

import pytest
from sqlalchemy import func, select

from clawhaven.accounts.models import Account, LoginSession
from clawhaven.accounts.signup import Owner
from clawhaven.billing.models import Checkout, Waiting
from clawhaven.context import Context
from clawhaven.core.settings import Settings
from clawhaven.instances import connections
from clawhaven.instances.models import Connection, Instance
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import Capability
from tests.live.telegram_methods import Bot
from tests.web.conftest import DRAFT, TOKEN, Visit, draft, token_in

FORM = {"email": "New@Example.com", **DRAFT}


def count(ctx: Context, model: type[object]) -> int:
    with ctx.db.read() as db:
        return int(db.scalar(select(func.count()).select_from(model)) or 0)


def test_the_landing_pages_email_arrives_in_the_form_and_makes_nothing(visit: Visit, ctx: Context) -> None:
    page = visit.http.post("/configure", data={"begin": "1", "email": "new@example.com"})
    assert page.status_code == 200
    assert 'value="new@example.com"' in page.text
    assert count(ctx, Account) == 0


def test_a_good_form_leads_to_the_payment_page_signed_in(visit: Visit, ctx: Context, bot: Bot) -> None:
    answer = visit.post("/configure", **FORM, telegram_bot_token=TOKEN)
    assert answer.status_code == 303
    with ctx.db.read() as db:
        checkout = db.scalars(select(Checkout)).one()
        connection = db.scalars(select(Connection)).one()
        session = db.scalars(select(LoginSession)).one()
    assert answer.headers["location"] == checkout.url
    assert connection.bot_username == "ada_haven_bot"
    assert connections.credentials_of(connection, ctx.keys) == {"telegram_bot_token": TOKEN}
    cookie = answer.headers["set-cookie"]
    assert re.search(r"clawhaven_session=[\w-]{43};", cookie)
    for flag in ("HttpOnly", "SameSite=lax", f"Max-Age={7 * 86_400}"):
        assert flag in cookie
    assert "Secure" not in cookie  # http on loopback
    assert session.token_hash not in cookie
    assert "new@example.com" in visit.get("/dashboard").text
    assert "Ada" in visit.get("/dashboard").text


def test_cookies_are_secure_where_the_site_is(ctx: Context, settings: Settings) -> None:
    secure = dataclasses.replace(ctx, settings=settings.model_copy(update={"base_url": "https://haven.example"}))
    visit = Visit(secure)
    answer = visit.post("/configure", **FORM)
    assert answer.status_code == 303
    assert "Secure" in answer.headers["set-cookie"]
    assert "max-age" in answer.headers["strict-transport-security"]


def test_every_error_stands_beside_its_field_and_nothing_is_lost(visit: Visit, ctx: Context) -> None:
    wrong = {
        "email": "nobody",
        "assistant_name": "<Ada>",
        "custom_instructions": "x" * 5001,
        "persona": "pirate",
        "plan": "gold",
        "telegram_bot_token": "secret-but-wrong",
    }
    page = visit.post("/configure", **wrong)
    assert page.status_code == 400
    for field in wrong:
        assert f'id="{field}-error"' in page.text, field
        assert f'href="#{field}"' in page.text, field
        assert f'id="{field}"' in page.text, field
    assert 'value="nobody"' in page.text
    assert 'value="&lt;Ada&gt;"' in page.text
    assert "x" * 5001 in page.text
    assert "secret-but-wrong" not in page.text
    assert count(ctx, Account) == 0


def test_a_token_telegram_does_not_know_is_told_at_its_field(visit: Visit, ctx: Context) -> None:
    page = visit.post("/configure", **FORM, telegram_bot_token="987654321:" + "B" * 35)
    assert page.status_code == 400
    assert "Telegram does not accept this token" in page.text
    assert 'id="telegram_bot_token-error"' in page.text
    assert 'value="Ada"' in page.text
    assert count(ctx, Account) == 0


def test_a_bot_that_serves_already_is_refused_whole(visit: Visit, mine: Visit, ctx: Context, bot: Bot) -> None:
    draft(mine, telegram_bot_token=TOKEN)
    page = visit.post("/configure", **FORM, telegram_bot_token=TOKEN)
    assert page.status_code == 409
    assert "already serves another assistant" in page.text
    assert count(ctx, Account) == 1


def test_a_known_email_is_led_to_sign_in(visit: Visit, owner: Owner) -> None:
    page = visit.post("/configure", **{**FORM, "email": owner.user.email})
    assert page.status_code == 409
    assert 'id="email-error"' in page.text
    assert 'href="/sign-in"' in page.text


def test_a_second_assistant_beyond_the_plan_is_explained(mine: Visit, live: str) -> None:
    assert "Your email" not in mine.get("/configure").text
    page = mine.post("/configure", **DRAFT)
    assert page.status_code == 409
    assert "Delete one first, or choose another plan." in page.text


def test_a_full_house_offers_the_waitlist(ctx: Context, settings: Settings) -> None:
    full = dataclasses.replace(ctx, settings=settings.model_copy(update={"max_customers": 1}))
    first = Visit(full)
    assert first.post("/configure", **FORM).status_code == 303
    late = Visit(full)
    form = late.get("/configure")
    assert "Every place is taken" in form.text
    refused = late.http.post("/configure", data={"csrf": token_in(form.text), **FORM, "email": "late@example.com"})
    assert refused.status_code == 503
    assert 'value="late@example.com"' in refused.text
    queued = late.post("/waitlist", email="Late@Example.com")
    assert "You are number 1" in queued.text
    assert count(ctx, Waiting) == 1
    assert late.post("/waitlist", email="what").status_code == 400
    assert first.get("/configure").status_code == 200
    assert "Every place is taken" not in first.get("/configure").text  # whoever has a place keeps it


def test_a_stale_form_keeps_its_words_and_works_the_second_time(visit: Visit, ctx: Context) -> None:
    page = visit.http.post("/configure", data={"csrf": "0" * 64, **FORM})
    assert page.status_code == 403
    assert "Help me plan." in page.text
    assert count(ctx, Account) == 0
    again = visit.http.post("/configure", data={"csrf": token_in(page.text), **FORM})
    assert again.status_code == 303


def test_sign_ups_are_limited_per_address(ctx: Context, settings: Settings) -> None:
    strict = dataclasses.replace(ctx, settings=settings.model_copy(update={"sign_up_per_minute": 1}))
    visit = Visit(strict)
    answers = [visit.post("/configure", **{**FORM, "email": f"n{n}@example.com"}) for n in range(3)]
    limited = [answer for answer in answers if answer.status_code == 429]
    assert limited  # at least one, even when a minute ends in between
    assert "Please wait" in limited[0].text
    assert int(limited[0].headers["retry-after"]) <= 60


def test_a_vendor_that_is_down_loses_nothing(ctx: Context, visit: Visit) -> None:
    class DownVendor:
        name = "sandbox"
        capabilities = frozenset({Capability.SUBSCRIPTIONS})

        def create_checkout(self, _request: object) -> None:
            raise ProviderError("down", code="down")

    broken = Visit(dataclasses.replace(ctx, payments=cast(Any, {"sandbox": DownVendor()})))
    answer = broken.post("/configure", **FORM)
    assert answer.status_code == 303
    assert "/checkout/cho_" in answer.headers["location"]
    page = broken.get(answer.headers["location"])
    assert page.status_code == 503
    assert "nothing was charged" in page.text
    assert answer.headers["location"].removeprefix(ctx.settings.base_url) in page.text  # try again
    assert count(ctx, Instance) == 1


@pytest.mark.parametrize("field", ["assistant_name", "custom_instructions"])
def test_customers_words_are_escaped_everywhere(mine: Visit, ctx: Context, field: str) -> None:
    evil = '"><script>alert(1)</script>'
    words = {"custom_instructions": evil} if field == "custom_instructions" else {"assistant_name": "A&\"'B"}
    instance_id = draft(mine, **words)
    for path in ("/dashboard", f"/instances/{instance_id}", f"/instances/{instance_id}/configuration"):
        page = mine.get(path).text
        assert "<script>alert" not in page
        assert "A&\"'B" not in page


def test_the_draft_of_a_signed_in_customer_is_theirs(mine: Visit, ctx: Context, owner: Owner) -> None:
    instance_id = draft(mine)
    with ctx.db.read() as db:
        assert db.get_one(Instance, instance_id).account_id == owner.account.id
