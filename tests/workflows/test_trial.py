"""The trial chat over the real proxy: counted like every call, paid from a budget, and never beyond it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from sqlalchemy import select

from clawhaven import ledger, wiring
from clawhaven.context import Context
from clawhaven.core.clock import Clock
from clawhaven.core.errors import Invalid, RateLimited, Unavailable
from clawhaven.core.settings import Settings
from clawhaven.metering.models import UsageRow
from clawhaven.ports.model import Exchange
from clawhaven.workflows import trial
from tests.conftest import free_port
from tests.web.gallery import serving


@pytest.fixture
def ctx(settings: Settings, clock: Clock) -> Iterator[Context]:
    port = free_port()
    update = {"platform_port": port, "base_url": f"http://127.0.0.1:{port}"}
    built = wiring.build(settings.model_copy(update=update), clock)
    yield built
    built.db.close()


def with_settings(ctx: Context, **changes: object) -> Context:
    return replace(ctx, settings=ctx.settings.model_copy(update=changes))


def left(ctx: Context) -> int:
    """What is left of today's budget, in micro-dollars."""
    price = trial.find_model(ctx)
    assert price is not None
    with ctx.db.tx() as db:
        return trial.prepare(db, ctx, price)


def talk_until_refused(ctx: Context) -> int:
    """How many answers there are before the budget ends them."""
    for answered in range(50):
        try:
            assert list(trial.answer(ctx, "x" * 400, []))
        except Unavailable as over:
            return answered if "budget" in over.message else -1
    raise AssertionError("there is no end")


def test_an_answer_goes_through_the_books(ctx: Context) -> None:
    with serving(ctx):
        pieces = list(trial.answer(ctx, "Is anybody there?", [Exchange("Hi", "Hello")]))
    assert len(pieces) > 1
    assert "Is anybody there?" in "".join(pieces)
    with ctx.db.read() as db:
        (row,) = db.scalars(select(UsageRow)).all()
        assert (row.account_id, row.state, row.plan_mode, row.markup_percent) == ("trial", "closed", "included", 100)
        assert row.price_micros == row.provider_cost_micros > 0
        books = ledger.balance(db, str(row.ledger_account_id))
        assert books.balance_micros == -row.price_micros
        assert books.held_micros == 0
    assert left(ctx) == 1_000_000 - row.price_micros


def test_the_budget_of_a_day_is_the_end_of_it_and_the_next_day_has_another(ctx: Context, clock: Clock) -> None:
    small = with_settings(ctx, trial_budget_per_day=Decimal("0.03"))
    with serving(small):
        assert talk_until_refused(small) > 0
        with small.db.read() as db:
            spent = sum(db.scalars(select(UsageRow.price_micros)))
        assert 0 < spent <= 30_000
        clock.advance(timedelta(days=1))
        assert list(trial.answer(small, "Good morning", []))


def test_the_proxy_itself_holds_the_line(ctx: Context) -> None:
    """Whoever holds the grant's key gets no further than the budget either."""
    price = trial.find_model(ctx)
    assert price is not None
    tiny = with_settings(ctx, trial_budget_per_day=Decimal("0.000001"))
    assert left(tiny) == 1
    question = trial._question(tiny, price, "Hello", [])
    with serving(tiny):
        told = "".join(tiny.model.say(trial._key(tiny), question))
    assert "used up" in told
    with tiny.db.read() as db:
        assert db.scalars(select(UsageRow)).all() == []


def test_where_it_is_closed(ctx: Context) -> None:
    assert trial.find_model(ctx) is not None
    for closed in (
        with_settings(ctx, trial_budget_per_day=Decimal(0)),
        with_settings(ctx, trial_model="claude-sonnet-5-5"),  # no key of the operator's
        replace(ctx, upstreams={name: one for name, one in ctx.upstreams.items() if name != "sandbox"}),
    ):
        assert trial.find_model(closed) is None
        with pytest.raises(Unavailable):
            trial.admit(closed, trial.read_visitor(closed, ""), "192.0.2.1", "Hello")
        with pytest.raises(Unavailable):
            list(trial.answer(closed, "Hello", []))


def test_five_messages_and_no_more_whatever_becomes_of_the_cookie(ctx: Context) -> None:
    first = visitor = trial.read_visitor(ctx, "")
    for left in (4, 3, 2, 1, 0):
        visitor, _ = trial.admit(ctx, visitor, "192.0.2.1", "Hello")
        assert visitor.left == left
        visitor = trial.read_visitor(ctx, trial.write_visitor(ctx, visitor))
    for told in (visitor, first):  # the cookie as it is, and as it was at the beginning
        with pytest.raises(RateLimited) as refused:
            trial.admit(ctx, told, "192.0.2.2", "Hello")
        assert refused.value.error_code == trial.OVER


def test_an_address_has_so_many_a_minute_and_a_day(ctx: Context, clock: Clock) -> None:
    def try_it() -> None:
        trial.admit(ctx, trial.read_visitor(ctx, ""), "192.0.2.1", "Hello")

    used = 0
    while used < trial.PER_ADDRESS:
        clock.advance(timedelta(seconds=60))
        for _ in range(trial.PER_MINUTE):
            try_it()
            used += 1
        with pytest.raises(RateLimited) as refused:
            try_it()
        assert refused.value.error_code == "rate_limited"
    clock.advance(timedelta(seconds=60))
    with pytest.raises(RateLimited) as over:
        try_it()
    assert over.value.error_code == trial.CROWDED
    assert trial.is_crowded(ctx, "192.0.2.1")
    assert not trial.is_crowded(ctx, "192.0.2.2")
    clock.advance(timedelta(days=1))
    assert not trial.is_crowded(ctx, "192.0.2.1")


@pytest.mark.parametrize("message", ["", "   ", "x" * 501])
def test_a_message_has_a_length(ctx: Context, message: str) -> None:
    with pytest.raises(Invalid) as refused:
        trial.admit(ctx, trial.read_visitor(ctx, ""), "192.0.2.1", message)
    assert refused.value.details["field"] == "message"


def test_a_conversation_cannot_be_made_up(ctx: Context) -> None:
    talk = [Exchange("Hi", "Hello"), Exchange("<b>", "'quoted'")]
    sealed = trial.write_talk(ctx, talk)
    assert trial.read_talk(ctx, sealed) == talk
    for foreign in ("", "x", sealed[:-20], sealed[:40] + sealed[44:], trial.write_visitor(ctx, trial.Visitor("v", 0))):
        assert trial.read_talk(ctx, foreign) == []


def test_a_model_that_is_away_is_said_so(ctx: Context) -> None:
    with pytest.raises(Unavailable, match="does not answer"):
        list(trial.answer(ctx, "Hello", []))
