"""Trouble asked for: it reaches every process, does what it says, and goes when it is taken back."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from clawhaven.core.clock import Clock
from clawhaven.ports.errors import ProviderError
from clawhaven.providers.payments.sandbox import Sandbox
from clawhaven.providers.payments.sandbox_trouble import Trouble
from tests.contracts.payments import DEARER, START, charge_of, request_of
from tests.providers.payments.test_sandbox import make, subscribe, subscription
from tests.providers.payments.test_sandbox_courier import COMPLETED, StillClock, Webhook, serving


@pytest.fixture
def clock() -> Clock:
    return StillClock()


@pytest.fixture
def webhook():  # type: ignore[no-untyped-def]
    with serving(Webhook()) as server:
        yield server


@pytest.fixture
def vendor(tmp_path: Path, clock: Clock, webhook: Webhook) -> Sandbox:
    return make(tmp_path, clock=clock, base_url=webhook.url)


def test_nothing_is_wrong_at_first_and_what_is_asked_for_stays(tmp_path: Path, vendor: Sandbox) -> None:
    assert vendor.trouble() == Trouble()
    asked = Trouble("declined", 12.5, 3, is_reordering=True, is_dropping=True, is_down=True)
    vendor.make_trouble(asked)
    assert make(tmp_path).trouble() == asked
    vendor.make_trouble(Trouble())
    assert make(tmp_path).trouble() == Trouble()


@pytest.mark.parametrize(
    ("field", "wrong"), [("next_card", "stolen"), ("delay_seconds", -1), ("duplicate", 21), ("delay_seconds", 1e9)]
)
def test_impossible_trouble_names_its_field(field: str, wrong: object) -> None:
    with pytest.raises(ProviderError, match=field) as caught:
        Trouble(**{field: wrong})  # type: ignore[arg-type]
    assert caught.value.permanent


def test_late_copied_and_backwards(vendor: Sandbox, webhook: Webhook, clock: Clock) -> None:
    vendor.make_trouble(Trouble(delay_seconds=60, duplicate=1, is_reordering=True))
    subscribe(vendor)
    assert vendor.deliver() == 0
    clock.advance(timedelta(seconds=61))
    assert vendor.deliver() == 6
    assert webhook.types(vendor) == COMPLETED[::-1] * 2


def test_dropped_events_are_only_found_by_asking(vendor: Sandbox, webhook: Webhook) -> None:
    vendor.make_trouble(Trouble(is_dropping=True))
    checkout = subscribe(vendor)
    vendor.make_trouble(Trouble())
    assert vendor.deliver() == 0
    assert len(vendor.unseen(START)) == 3
    vendor.renew(subscription(vendor, checkout).reference)
    assert vendor.deliver() == 2
    assert webhook.types(vendor) == ["payment.succeeded", "subscription.updated"]


def test_switched_off_every_verb_fails_and_events_wait(vendor: Sandbox, webhook: Webhook) -> None:
    checkout = subscribe(vendor)
    headers, body = vendor.unseen(START)[0]
    state = vendor.fetch(checkout)
    assert state.subscription is not None
    reference, customer = state.subscription.reference, str(state.customer_reference)
    vendor.make_trouble(Trouble(is_down=True))
    verbs = (
        lambda: vendor.create_checkout(request_of("chk_2")),
        lambda: vendor.fetch(checkout),
        lambda: vendor.cancel(reference, True),
        lambda: vendor.cancel(reference, False),
        lambda: vendor.undo_cancel(reference),
        lambda: vendor.change_plan(reference, DEARER, "change_1"),
        lambda: vendor.refund(state.payments[0].reference, 10_000, "refund_1"),
        lambda: vendor.charge_saved(charge_of("chk_2", customer)),
        lambda: vendor.portal_url(customer, "http://127.0.0.1/"),
        lambda: vendor.invoices(customer),
        lambda: vendor.saved_method(customer),
        vendor.list_subscriptions,
        lambda: vendor.unseen(START),
        lambda: vendor.checkout(checkout),
        lambda: vendor.complete(checkout, "paid"),
    )
    for verb in verbs:
        with pytest.raises(ProviderError) as caught:
            verb()
        assert (caught.value.permanent, caught.value.code) == (False, "sandbox_down")
    assert vendor.parse_event(headers, body).vendor_type == "checkout.completed"
    vendor.renew(reference)
    assert vendor.deliver() == 0
    vendor.make_trouble(Trouble())
    assert vendor.deliver() == 5
    assert webhook.types(vendor)[:3] == COMPLETED
    assert len(vendor.fetch(checkout).payments) == 2


def test_the_next_card_payment_fails_once(vendor: Sandbox) -> None:
    checkout = subscribe(vendor)
    customer = str(vendor.fetch(checkout).customer_reference)
    for card, ended in (("declined", "declined"), ("needs_3ds", "open")):
        vendor.make_trouble(Trouble(card))  # type: ignore[arg-type]
        made = vendor.charge_saved(charge_of(f"chk_{card}", customer))
        assert vendor.fetch(made.reference).checkout_state == ended
        assert vendor.trouble().next_card is None
    made = vendor.charge_saved(charge_of("chk_4", customer))
    assert vendor.fetch(made.reference).checkout_state == "paid"
    vendor.make_trouble(Trouble("declined"))
    vendor.bill(subscription(vendor, checkout).reference)
    assert subscription(vendor, checkout).state == "past_due"


def test_a_card_that_works_once_pays_for_one_that_does_not(vendor: Sandbox) -> None:
    checkout = subscribe(vendor)
    vendor.use_card(str(vendor.fetch(checkout).customer_reference), "declined")
    vendor.make_trouble(Trouble("works"))
    reference = subscription(vendor, checkout).reference
    vendor.bill(reference)
    assert subscription(vendor, checkout).state == "active"
    vendor.bill(reference)
    assert subscription(vendor, checkout).state == "past_due"
