"""Signing in by mailed link."""

from __future__ import annotations

import dataclasses
import re
from datetime import timedelta

import pytest
from sqlalchemy import func, select

from clawhaven.accounts.models import LoginSession
from clawhaven.accounts.signup import Owner, find_owner
from clawhaven.context import Context
from clawhaven.core.settings import Settings
from clawhaven.workflows import sign_in
from tests.web.conftest import DRAFT, Visit


def ask_for_link(visit: Visit, owner: Owner, **fields: str) -> str:
    visit.post("/sign-in", email=owner.user.email, **fields)
    found = re.search(
        rf"{re.escape(visit.ctx.settings.base_url)}(/sign-in/[\w-]+)", visit.letters(owner.user.email)[-1]
    )
    assert found is not None
    return found.group(1)


def test_the_answer_is_the_same_for_a_stranger(visit: Visit, owner: Owner) -> None:
    known = visit.post("/sign-in", email="Alice@Example.com ")
    unknown = visit.post("/sign-in", email="nobody@example.com")
    assert known.status_code == unknown.status_code == 200
    assert known.text.replace("alice", "nobody") == unknown.text
    assert len(visit.letters("alice@example.com")) == 1
    assert visit.letters("nobody@example.com") == []


def test_looking_at_a_link_does_not_use_it_up_and_it_works_once(visit: Visit, owner: Owner, ctx: Context) -> None:
    link = ask_for_link(visit, owner)
    for _ in range(2):
        assert visit.get(link).status_code == 200
    assert visit.get("/dashboard").status_code == 303
    used = visit.post(link)
    assert (used.status_code, used.headers["location"]) == (303, "/dashboard")
    assert visit.get("/dashboard").status_code == 200
    again = Visit(ctx).post(link)
    assert again.status_code == 401
    assert "used already or has expired" in again.text


def test_an_old_link_is_refused(visit: Visit, owner: Owner, ctx: Context) -> None:
    link = ask_for_link(visit, owner)
    ctx.clock.advance(timedelta(minutes=16))
    assert visit.post(link).status_code == 401


def test_a_link_leads_back_to_where_it_was_needed(visit: Visit, owner: Owner, live: str) -> None:
    wanted = f"/instances/{live}/chat"
    turned_away = visit.get(wanted)
    assert turned_away.headers["location"] == f"/sign-in?next={wanted}"
    page = visit.get(turned_away.headers["location"]).text
    assert f'name="next" value="{wanted}"' in page
    link = ask_for_link(visit, owner, next=wanted)
    assert visit.post(link).headers["location"] == wanted


@pytest.mark.parametrize("evil", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_nobody_is_led_to_another_site(visit: Visit, mine: Visit, owner: Owner, evil: str) -> None:
    assert evil not in visit.get("/sign-in", params={"next": evil}).text
    assert mine.get("/sign-in", params={"next": evil}).headers["location"] == "/dashboard"
    link = ask_for_link(visit, owner, next=evil)
    assert visit.post(link).headers["location"] == "/dashboard"


def test_signing_out_ends_the_session(mine: Visit, ctx: Context) -> None:
    cookie = mine.http.cookies["clawhaven_session"]
    answer = mine.post("/sign-out", page="/dashboard")
    assert answer.status_code == 303
    mine.http.cookies.set("clawhaven_session", cookie)
    assert mine.get("/dashboard").status_code == 303
    with ctx.db.read() as db:
        assert db.scalar(select(func.count()).select_from(LoginSession)) == 0


def test_the_first_link_puts_out_whoever_signed_up_with_the_address(visit: Visit, ctx: Context) -> None:
    attacker, signed_up = Visit(ctx), {**DRAFT, "email": "victim@example.com"}
    assert attacker.post("/configure", **signed_up).status_code == 303
    assert attacker.get("/dashboard").status_code == 200
    with ctx.db.read() as db:
        victim = find_owner(db, "victim@example.com")
    assert victim is not None
    visit.sign_in(victim)
    assert visit.get("/dashboard").status_code == 200
    assert attacker.get("/dashboard").status_code == 303


def test_a_session_ends_by_itself(mine: Visit, ctx: Context) -> None:
    ctx.clock.advance(timedelta(days=ctx.settings.session_days, seconds=1))
    assert mine.get("/dashboard").status_code == 303


def test_tries_are_limited_per_address_and_mails_per_person(ctx: Context, settings: Settings, owner: Owner) -> None:
    strict = Visit(dataclasses.replace(ctx, settings=settings.model_copy(update={"sign_in_per_minute": 1})))
    codes = [strict.post("/sign-in", email="nobody@example.com").status_code for _ in range(3)]
    assert 429 in codes
    patient = Visit(ctx)
    for _ in range(sign_in.MAILS_PER_HOUR * 2 + 1):
        assert patient.post("/sign-in", email=owner.user.email).status_code == 200
    assert len(patient.letters(owner.user.email)) <= sign_in.MAILS_PER_HOUR * 2


def test_a_wrong_address_is_told(visit: Visit) -> None:
    page = visit.post("/sign-in", email="what")
    assert page.status_code == 400
    assert "not an email address" in page.text
