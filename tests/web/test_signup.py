"""The first screen: address and plan, its errors, and the waitlist."""

from __future__ import annotations

import dataclasses
import re

import pytest
from sqlalchemy import func, select

from clawhaven.accounts.models import Account, LoginSession
from clawhaven.accounts.signup import Owner
from clawhaven.billing.models import Waiting
from clawhaven.context import Context
from clawhaven.core.settings import Settings
from clawhaven.instances.models import Instance, OpenDraft
from tests.web.conftest import Visit, draft, fill_in, order, token_in

FORM = {"email": "New@Example.com", "plan": "personal"}


def count(ctx: Context, model: type[object]) -> int:
    with ctx.db.read() as db:
        return int(db.scalar(select(func.count()).select_from(model)) or 0)


def test_the_landing_pages_email_arrives_in_the_form_and_makes_nothing(visit: Visit, ctx: Context) -> None:
    page = visit.http.post("/configure", data={"begin": "1", "email": "new@example.com"})
    assert page.status_code == 200
    assert 'value="new@example.com"' in page.text
    assert count(ctx, Account) == 0


def test_address_and_plan_open_an_account_signed_in_with_a_draft(visit: Visit, ctx: Context) -> None:
    answer = visit.post("/configure", **FORM)
    assert (answer.status_code, answer.headers["location"]) == (303, "/configure/assistant")
    cookie = answer.headers["set-cookie"]
    assert re.search(r"clawhaven_session=[\w-]{43};", cookie)
    for flag in ("HttpOnly", "SameSite=lax", f"Max-Age={7 * 86_400}"):
        assert flag in cookie
    assert "Secure" not in cookie  # http on loopback
    with ctx.db.read() as db:
        session = db.scalars(select(LoginSession)).one()
        row = db.scalars(select(OpenDraft)).one()
    assert session.token_hash not in cookie
    assert (row.plan, row.step) == ("personal", "assistant")
    assert count(ctx, Instance) == 0
    assert "new@example.com" in visit.get("/dashboard").text


def test_cookies_are_secure_where_the_site_is(ctx: Context, settings: Settings) -> None:
    secure = dataclasses.replace(ctx, settings=settings.model_copy(update={"base_url": "https://haven.example"}))
    answer = Visit(secure).post("/configure", **FORM)
    assert answer.status_code == 303
    assert "Secure" in answer.headers["set-cookie"]
    assert "max-age" in answer.headers["strict-transport-security"]


def test_every_error_stands_beside_its_field_and_nothing_is_lost(visit: Visit, ctx: Context) -> None:
    wrong = {"email": "nobody", "plan": "gold"}
    page = visit.post("/configure", **wrong)
    assert page.status_code == 400
    for field in wrong:
        assert f'id="{field}-error"' in page.text, field
        assert f'href="#{field}"' in page.text, field
        assert f'id="{field}"' in page.text, field
    assert 'value="nobody"' in page.text
    assert count(ctx, Account) == 0


def test_a_chosen_plan_is_chosen(visit: Visit, mine: Visit) -> None:
    chosen = re.compile(r'value="yearly"[^>]*checked')
    assert chosen.search(visit.get("/configure?plan=yearly").text)
    assert chosen.search(mine.get("/configure?plan=yearly").text)
    assert 'value="personal" id="plan" checked' in visit.get("/configure?plan=gold").text


def test_a_known_email_can_be_sent_its_link_and_comes_back_here(visit: Visit, owner: Owner) -> None:
    page = visit.post("/configure", email=owner.user.email, plan="personal")
    assert page.status_code == 409
    assert 'id="email-error"' in page.text
    known = page.text.split('id="known"')[1].split("</form>")[0]
    assert 'action="/sign-in"' in known
    assert f'name="email" value="{owner.user.email}"' in known
    sent = visit.http.post(
        "/sign-in", data={"csrf": token_in(page.text), "email": owner.user.email, "next": "/configure"}
    )
    assert sent.status_code == 200
    link = re.search(r"/sign-in/[\w-]+", visit.letters(owner.user.email)[-1])
    assert link is not None
    assert visit.post(link.group()).headers["location"] == "/configure"


def test_who_is_signed_in_is_not_asked_for_an_address(mine: Visit, ctx: Context, owner: Owner) -> None:
    assert "Your email" not in mine.get("/configure").text
    assert mine.post("/configure", plan="metered").headers["location"] == "/configure/assistant"
    assert count(ctx, Account) == 1
    assert mine.get("/configure").headers["location"] == "/configure/assistant"
    assert re.search(r'value="metered"[^>]*checked', mine.get("/configure/plan").text)


def test_a_plan_that_is_full_is_explained_before_anything_is_filled_in(mine: Visit, live: str) -> None:
    page = mine.post("/configure", plan="personal")
    assert page.status_code == 409
    assert "Delete one first, or choose another plan." in page.text


def test_an_order_that_waits_for_its_payment_is_shown(mine: Visit) -> None:
    draft(mine)
    page = mine.get("/configure").text
    assert "Ada is waiting for its payment." in page
    assert 'href="/checkout/' in page


def test_a_full_house_offers_the_waitlist(ctx: Context, settings: Settings) -> None:
    full = dataclasses.replace(ctx, settings=settings.model_copy(update={"max_customers": 1}))
    first, beaten = Visit(full), Visit(full)
    fill_in(beaten, email="beaten@example.com")
    assert order(first, **FORM).status_code == 303
    late = Visit(full)
    form = late.get("/configure")
    assert "Every place is taken" in form.text
    refused = late.http.post("/configure", data={"csrf": token_in(form.text), **FORM, "email": "late@example.com"})
    assert refused.status_code == 503
    assert 'value="late@example.com"' in refused.text
    at_the_end = beaten.http.post("/configure/review", data={"csrf": token_in(beaten.get("/configure/review").text)})
    assert at_the_end.status_code == 503
    assert 'value="beaten@example.com"' in at_the_end.text
    queued = late.post("/waitlist", email="Late@Example.com")
    assert "You are number 1" in queued.text
    assert count(ctx, Waiting) == 1
    assert late.post("/waitlist", email="what").status_code == 400
    assert "Every place is taken" not in first.get("/configure").text  # whoever has a place keeps it
    assert count(ctx, Account) == 2


def test_a_stale_form_keeps_its_words_and_works_the_second_time(visit: Visit, ctx: Context) -> None:
    page = visit.http.post("/configure", data={"csrf": "0" * 64, **FORM})
    assert page.status_code == 403
    assert 'value="New@Example.com"' in page.text
    assert count(ctx, Account) == 0
    again = visit.http.post("/configure", data={"csrf": token_in(page.text), **FORM})
    assert again.status_code == 303


def test_sign_ups_are_limited_per_address(ctx: Context, settings: Settings) -> None:
    strict = dataclasses.replace(ctx, settings=settings.model_copy(update={"sign_up_per_minute": 1}))
    answers = [Visit(strict).post("/configure", **{**FORM, "email": f"n{n}@example.com"}) for n in range(3)]
    limited = [answer for answer in answers if answer.status_code == 429]
    assert limited  # at least one, even when a minute ends in between
    assert "Please wait" in limited[0].text
    assert int(limited[0].headers["retry-after"]) <= 60


@pytest.mark.parametrize("field", ["assistant_name", "custom_instructions"])
def test_customers_words_are_escaped_everywhere(mine: Visit, ctx: Context, field: str) -> None:
    evil = '"><script>alert(1)</script>'
    words = {"custom_instructions": evil} if field == "custom_instructions" else {"assistant_name": "A&\"'B"}
    fill_in(mine, **words)
    for path in ("/configure/assistant", "/configure/review"):
        page = mine.get(path).text
        assert "<script>alert" not in page
        assert "A&\"'B" not in page
    assert mine.post("/configure/review").status_code == 303
    with ctx.db.read() as db:
        instance_id = db.scalars(select(Instance.id)).one()
    for path in ("/dashboard", f"/instances/{instance_id}", f"/instances/{instance_id}/configuration"):
        page = mine.get(path).text
        assert "<script>alert" not in page
        assert "A&\"'B" not in page


def test_the_draft_of_a_signed_in_customer_is_theirs(mine: Visit, ctx: Context, owner: Owner) -> None:
    instance_id = draft(mine)
    with ctx.db.read() as db:
        assert db.get_one(Instance, instance_id).account_id == owner.account.id
