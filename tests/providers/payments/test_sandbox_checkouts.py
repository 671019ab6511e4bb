"""Checkouts and charges: one per key whoever asks, one customer per person, what is refused; also when killed."""

from __future__ import annotations

import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import Discount, PaymentKind
from clawhaven.providers.payments.sandbox import Sandbox
from tests.contracts.payments import DEARER, START, charge_of, request_of
from tests.providers.payments.test_sandbox import make, subscribe, subscription
from tests.providers.payments.test_sandbox_calendar import renewals
from tests.providers.payments.test_sandbox_courier import run_and_kill


@pytest.fixture
def vendor(tmp_path: Path) -> Sandbox:
    return make(tmp_path)


def all_at_once(tmp_path: Path, act: Callable[[Sandbox], object]) -> list[object]:
    """Eight processes' worth of vendors do the same at the same time; what each got."""
    gate, seen = threading.Barrier(8), []

    def run(one: Sandbox) -> None:
        gate.wait()
        seen.append(act(one))

    threads = [threading.Thread(target=run, args=(make(tmp_path),)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    return seen


def customer_of(vendor: Sandbox, checkout: str) -> str:
    """The vendor's customer."""
    found = vendor.fetch(checkout).customer_reference
    assert found is not None
    return found


def test_an_account_is_one_customer_whatever_its_email_and_a_stranger_is_another(vendor: Sandbox) -> None:
    def customer(key: str, **more: object) -> str:
        return customer_of(vendor, vendor.create_checkout(request_of(key, **more)).reference)  # type: ignore[arg-type]

    first = customer("chk_1", account_id="acc_1", email="old@example.com")
    assert customer("chk_2", account_id="acc_1", email="new@example.com") == first
    assert customer("chk_3", account_id="acc_2", email="old@example.com") != first
    nobody = customer("chk_4", account_id="", email="Ada@example.com")
    assert customer("chk_5", account_id="", email="ada@example.com") == nobody
    assert customer("chk_6", account_id="acc_9", customer_reference=first) == first
    with pytest.raises(ProviderError) as caught:
        customer("chk_7", customer_reference="scus_nothing")
    assert (caught.value.permanent, caught.value.code) == (True, "unknown_customer")


@pytest.mark.parametrize("more", [{"trial_days": 3}, {"discount": Discount("A", percent_off=10)}, {"interval": "year"}])
def test_a_key_is_one_offer(vendor: Sandbox, more: dict[str, object]) -> None:
    vendor.create_checkout(request_of("chk_1"))
    with pytest.raises(ProviderError) as caught:
        vendor.create_checkout(request_of("chk_1", **more))  # type: ignore[arg-type]
    assert caught.value.code == "idempotency_mismatch"


def test_many_charges_at_once_are_one(tmp_path: Path, vendor: Sandbox) -> None:
    customer = customer_of(vendor, subscribe(vendor))
    made = all_at_once(tmp_path, lambda one: one.charge_saved(charge_of("chk_2", customer)).reference)
    assert len(set(made)) == 1
    assert len(vendor.fetch(str(made[0])).payments) == 1


def test_many_refunds_and_changes_at_once_are_one(tmp_path: Path, vendor: Sandbox) -> None:
    checkout = subscribe(vendor)
    payment, reference = vendor.fetch(checkout).payments[0].reference, subscription(vendor, checkout).reference
    assert len(set(all_at_once(tmp_path, lambda one: one.refund(payment, 1_000_000, "refund_1")))) == 1
    all_at_once(tmp_path, lambda one: one.change_plan(reference, DEARER, "change_1"))
    state = vendor.fetch(checkout)
    assert state.payments[0].refunded_micros == 1_000_000
    assert len(state.payments) == 2


def test_what_cannot_be_charged_is_refused(vendor: Sandbox) -> None:
    open_one = vendor.create_checkout(request_of("chk_1", account_id="acc_7")).reference
    customer = customer_of(vendor, open_one)
    paid = vendor.create_checkout(request_of("chk_2")).reference
    vendor.complete(paid, "paid")
    paying = customer_of(vendor, paid)
    vendor.charge_saved(charge_of("chk_3", paying))
    cases = (
        (charge_of("chk_2", customer), "no_saved_method"),
        (charge_of("chk_2", "scus_nothing"), "unknown_customer"),
        (charge_of("chk_2", paying, 10_001), "invalid_amount"),
        (charge_of("chk_2", paying, 0), "invalid_amount"),
        (charge_of("chk_3", paying, 30_000_000), "idempotency_mismatch"),
    )
    for request, code in cases:
        with pytest.raises(ProviderError) as caught:
            vendor.charge_saved(request)
        assert (caught.value.permanent, caught.value.code) == (True, code)


def test_a_declined_charge_stays_declined_and_a_confirmed_one_is_told(vendor: Sandbox) -> None:
    customer = customer_of(vendor, subscribe(vendor))
    vendor.use_card(customer, "declined")
    declined = vendor.charge_saved(charge_of("chk_2", customer)).reference
    vendor.complete(declined, "paid")
    vendor.use_card(customer, "works")
    assert vendor.charge_saved(charge_of("chk_2", customer)).reference == declined
    assert vendor.fetch(declined).checkout_state == "declined"
    vendor.use_card(customer, "needs_3ds")
    waiting = vendor.charge_saved(charge_of("chk_3", customer)).reference
    vendor.complete(waiting, "paid")
    events = [vendor.parse_event(headers, body) for headers, body in vendor.unseen(START)]
    told = [(event.checkout_reference, event.vendor_type) for event in events][3:]
    kinds = ["payment.action_required", "checkout.completed", "payment.succeeded"]
    assert told == [(declined, "payment.failed"), *((waiting, kind) for kind in kinds)]
    method = vendor.saved_method(customer)
    assert method is not None
    assert method.last4 == "3184", "confirming a payment saves no other card"


def test_killed_anywhere_every_charge_has_its_event_once(tmp_path: Path, vendor: Sandbox) -> None:
    customer = customer_of(vendor, subscribe(vendor))
    loop = (
        "import itertools\n"
        "from tests.contracts.payments import charge_of\n"
        "for number in itertools.count():\n"
        f"    vendor.charge_saved(charge_of(f'chk_c{{number}}', {customer!r}))\n"
    )
    for _ in range(3):  # each begins again with the keys of the one that was killed
        before = renewals(tmp_path)
        worker = run_and_kill(tmp_path, "", loop)
        while renewals(tmp_path) < before + 10 and worker.poll() is None:
            time.sleep(0.005)
        worker.kill()
        assert worker.wait(60) == -signal.SIGKILL
    charged = [one for one in vendor.invoices(customer) if one.amount_micros == 20_000_000]
    assert len(charged) >= 30
    events = [vendor.parse_event(headers, body) for headers, body in vendor.unseen(START)]
    succeeded = [event for event in events if event.kind is PaymentKind.PAYMENT_SUCCEEDED]
    paid = Counter(event.checkout_reference for event in succeeded)
    assert set(paid.values()) == {1}
    assert len(paid) == len(charged) + 1
    states = [vendor.fetch(str(event.checkout_reference)) for event in succeeded]
    assert [state.payments[0].reference for state in states] == [event.payment_reference for event in succeeded]
