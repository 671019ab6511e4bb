"""Our row mirrors the vendor's, whatever the order of what we read."""

from __future__ import annotations

import dataclasses
import functools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clawhaven.billing import patience, subscriptions
from clawhaven.billing.models import Checkout, Subscription
from clawhaven.billing.subscriptions import MACHINE, SubscriptionState
from clawhaven.ports.payments import VendorSubscription
from tests.workflows.scene import Scene

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
WORDS = [*SubscriptionState, "paused", "", "ACTIVE"]


def vendor(state: str, day: int = 0, is_ending: bool = False) -> VendorSubscription:
    start = NOW + timedelta(days=day)
    return VendorSubscription("ssub_1", state, start, start + timedelta(days=30), is_ending)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(st.tuples(st.sampled_from(WORDS), st.integers(0, 60), st.booleans()), min_size=1, max_size=8))
def test_any_order_of_states_ends_where_the_moves_allow(scene: Scene, words: list[tuple[str, int, bool]]) -> None:
    begun = scene.sign_up(f"a{scene.count('user_account')}@example.com")
    expected: SubscriptionState | None = None
    for word, day, is_ending in words:
        read = dataclasses.replace(vendor(word, day, is_ending), reference=begun.checkout.id)
        with scene.ctx.db.tx() as db:
            checkout = db.get_one(Checkout, begun.checkout.id)
            row = subscriptions.mirror(db, checkout, read, NOW)
        known = SubscriptionState(word) if word in set(SubscriptionState) else None
        if expected is None:
            expected = known or SubscriptionState.INCOMPLETE
        elif known is not None and known in MACHINE.moves[expected]:
            expected = known
        assert (row.state, row.is_ending, row.period_start_at) == (expected, is_ending, NOW + timedelta(days=day))
    with scene.ctx.db.read() as db:
        stored = subscriptions.of_checkout(db, begun.checkout.id)
        assert stored is not None
        assert stored.state == expected
        assert stored.reference == begun.checkout.id


def test_of_two_vendors_the_small_one_has_its_turn(scene: Scene) -> None:
    account_id = scene.sign_up().owner.account.id
    with scene.ctx.db.tx() as db:
        for number in range(30):
            name, terms = f"{number:02}", {"account_id": account_id, "plan": "personal", "created_at": NOW}
            terms["provider"] = "small" if number == 29 else "large"
            db.add(Checkout(id=f"cho_{name}", amount_micros=1, state="completed", reference=f"r{name}", **terms))
            db.flush()
            times = dict.fromkeys(("period_start_at", "period_end_at"), NOW)
            times["checked_at"] = NOW + timedelta(seconds=number)
            terms |= {"id": f"sub_{name}", "checkout_id": f"cho_{name}", "reference": name}
            db.add(Subscription(state="active", **terms, **times))
    late = NOW + timedelta(hours=2)
    with scene.ctx.db.tx() as db:
        ask = functools.partial(subscriptions.unchecked, db, before=late, now=late, limit=3)
        assert [row.reference for row in ask({"large", "small", "none"})] == ["00", "29", "01"]
        for row in ask({"large"}):
            patience.note_asked(db, row, late)
        assert [row.reference for row in ask({"large", "small"})] == ["03", "29", "04"]
        assert ask(set()) == []


@pytest.mark.parametrize("state", list(SubscriptionState))
def test_who_may_run(scene: Scene, state: SubscriptionState) -> None:
    begun = scene.sign_up()
    with scene.ctx.db.tx() as db:
        row = subscriptions.mirror(db, db.get_one(Checkout, begun.checkout.id), vendor(state), NOW)
        assert subscriptions.is_entitled(row) is (state in ("trialing", "active", "past_due"))
        found = subscriptions.of_instance(db, begun.instance.id)
        assert found is not None
        assert found.id == row.id
        by_name = subscriptions.by_reference(db, "sandbox", "ssub_1")
        assert by_name is not None
        assert by_name.id == row.id
        assert subscriptions.by_reference(db, "stripe", "ssub_1") is None
    assert subscriptions.is_entitled(None) is False


def test_what_has_ended_never_comes_back(scene: Scene) -> None:
    begun = scene.sign_up()
    for word in ("active", "canceled", *SubscriptionState):
        with scene.ctx.db.tx() as db:
            row = subscriptions.mirror(db, db.get_one(Checkout, begun.checkout.id), vendor(word), NOW)
            if word != "active" or row.state == "canceled":
                assert row.state == "canceled"
    assert scene.count("subscription") == 1
