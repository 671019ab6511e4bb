"""Operators read words, in their language, where our books have codes."""

from __future__ import annotations

import pytest

from clawhaven.accounts import operators
from clawhaven.accounts.signup import Owner
from clawhaven.billing import refunds, wallet
from clawhaven.billing.dunning import Cause, DunningState
from clawhaven.context import Context
from clawhaven.instances import health, states
from clawhaven.instances.states import Reason
from clawhaven.web import jargon
from clawhaven.workflows import proxykey
from docs import sources
from tests.web.conftest import Visit

GERMAN = {"accept-language": "de"}


@pytest.fixture
def boss(ctx: Context) -> Visit:
    """An operator, signed in with a mailed link."""
    with ctx.db.tx() as db:
        owner = operators.appoint(db, "boss@example.com", ctx.clock.now())
    signed_in = Visit(ctx)
    signed_in.sign_in(owner)
    return signed_in


def test_every_code_has_a_word() -> None:
    assert {one.name for one in sources.workflows()} | {proxykey.KIND} == jargon.WORKFLOWS.keys()
    for kind, words in (
        (Cause, jargon.CAUSES),
        (DunningState, jargon.TROUBLE),
        (refunds.RefundState, jargon.REFUNDS),
        (wallet.Level, jargon.LEVELS),
        (Reason, jargon.BECAUSE),
    ):
        assert {str(one) for one in kind} == {str(one) for one in words}


def test_states_of_an_assistant_are_said_with_every_reason(boss: Visit, ctx: Context, owner: Owner, live: str) -> None:
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        health.record(db, live, now, status="exited", is_healthy=False, detail="")
        states.suspend(db, live, now, Reason.OWNER)
        states.suspend(db, live, now, Reason.PAYMENT)
    for path in ("/admin/fleet", f"/admin/accounts/{owner.account.id}"):
        assert "Paused: by its owner, a payment is missing" in boss.get(path).text
        page = boss.get(path, headers=GERMAN).text
        assert "Pausiert: vom Besitzer, eine Zahlung fehlt" in page, path
        for code in ("suspended", "owner payment", ">exited<", ">pending<", ">sent<"):
            assert code not in page.replace('value="suspended"', ""), (path, code)


def test_work_is_said_in_words(boss: Visit) -> None:
    page = boss.get("/admin/workflows?state=waiting", headers=GERMAN).text
    assert "Eine Mail verschicken" in page
