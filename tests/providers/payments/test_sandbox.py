"""The sandbox vendor: its contract, its page, its rehearsals."""

from __future__ import annotations

import json
import stat
import threading
from datetime import timedelta
from pathlib import Path
from typing import Literal

import pytest
from pydantic import SecretStr

from clawhaven.core.clock import Clock
from clawhaven.core.settings import Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import BadSignature, PaymentKind, Payments, VendorSubscription
from clawhaven.providers.payments.sandbox import Sandbox
from clawhaven.providers.payments.sandbox_courier import SIGNATURE_HEADER
from clawhaven.providers.payments.signature import sign
from tests.contracts.payments import START, Card, PaymentsContract, request_of

SECRET = "sandbox_secret_for_tests"


def make(tmp_path: Path, secret: str = SECRET, clock: Clock | None = None, base_url: str = "") -> Sandbox:
    """A vendor whose file is in tmp_path; made twice, it is the same vendor."""
    settings = Settings(_env_file=None, data_dir=tmp_path / "var", base_url=base_url)
    options = Sandbox.Options(_env_file=None, sandbox_payments_secret=SecretStr(secret))
    return Sandbox(options, settings, clock)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def vendor(tmp_path: Path, clock: Clock) -> Sandbox:
    return make(tmp_path, clock=clock)


def told(vendor: Sandbox) -> list[str]:
    """Vendor types of every event so far."""
    return [json.loads(body)["type"] for _, body in vendor.unseen(START)]


def subscribe(vendor: Sandbox) -> str:
    """A paid monthly subscription's checkout."""
    reference = vendor.create_checkout(request_of("chk_1")).reference
    vendor.complete(reference, "paid")
    return reference


def subscription(vendor: Sandbox, checkout: str) -> VendorSubscription:
    """The checkout's subscription as it is now."""
    found = vendor.fetch(checkout).subscription
    assert found is not None
    return found


class TestContract(PaymentsContract):
    """The sandbox keeps the contract."""

    @pytest.fixture
    def payments(self, tmp_path: Path) -> Payments:
        return make(tmp_path)

    def finish(self, payments: Payments, reference: str, outcome: Literal["paid", "declined", "cancelled"]) -> None:
        assert isinstance(payments, Sandbox)
        payments.complete(reference, outcome)

    def use_card(self, payments: Payments, customer: str, card: Card) -> None:
        assert isinstance(payments, Sandbox)
        payments.use_card(customer, card)

    def turn_period(self, payments: Payments, subscription: str) -> None:
        assert isinstance(payments, Sandbox)
        payments.bill(subscription)

    def dispute(self, payments: Payments, payment: str, outcome: Literal["open", "won", "lost"]) -> None:
        assert isinstance(payments, Sandbox)
        payments.dispute(payment, outcome)


def test_never_for_production() -> None:
    assert Sandbox.is_for_production is False


def test_the_page_is_on_this_site_and_knows_its_checkout(vendor: Sandbox) -> None:
    made = vendor.create_checkout(request_of("chk_1"))
    assert made.url == f"http://127.0.0.1:8080/sandbox/checkout/{made.reference}"
    page = vendor.checkout(made.reference)
    assert page is not None
    assert (page.email, page.amount_micros, page.interval, page.state) == (
        "user@example.com",
        29_000_000,
        "month",
        "open",
    )
    assert vendor.checkout("sco_nothing") is None


@pytest.mark.parametrize(
    ("amount_micros", "interval"), [(0, None), (-10_000, None), (10_001, None), (10_000, "week"), (10_000, "")]
)
def test_impossible_prices_are_refused(vendor: Sandbox, amount_micros: int, interval: str | None) -> None:
    with pytest.raises(ProviderError) as caught:
        vendor.create_checkout(request_of("chk_1", amount_micros, interval))
    assert caught.value.permanent


def test_paid_tells_everything_once_and_stays_paid(vendor: Sandbox) -> None:
    reference = subscribe(vendor)
    before = vendor.fetch(reference)
    for outcome in ("paid", "declined", "cancelled"):
        vendor.complete(reference, outcome)
    assert vendor.fetch(reference) == before
    assert told(vendor) == ["checkout.completed", "subscription.created", "payment.succeeded"]


def test_declined_can_be_tried_again(vendor: Sandbox) -> None:
    reference = vendor.create_checkout(request_of("chk_1", 10_000_000, None)).reference
    vendor.complete(reference, "declined")
    vendor.complete(reference, "declined")
    state = vendor.fetch(reference)
    assert (state.checkout_state, state.payments) == ("declined", ())
    vendor.complete(reference, "paid")
    assert vendor.fetch(reference).checkout_state == "paid"
    assert told(vendor) == ["payment.failed", "checkout.completed", "payment.succeeded"]


def test_cancelled_is_expired_for_good(vendor: Sandbox) -> None:
    reference = vendor.create_checkout(request_of("chk_1")).reference
    vendor.complete(reference, "cancelled")
    vendor.complete(reference, "paid")
    assert vendor.fetch(reference).checkout_state == "cancelled"
    assert told(vendor) == ["checkout.expired"]


def test_many_completions_at_once_are_one_payment(tmp_path: Path, vendor: Sandbox) -> None:
    reference = vendor.create_checkout(request_of("chk_1")).reference
    others = [make(tmp_path) for _ in range(8)]
    gate = threading.Barrier(len(others))

    def complete(one: Sandbox) -> None:
        gate.wait()
        one.complete(reference, "paid")

    threads = [threading.Thread(target=complete, args=(one,)) for one in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told(vendor) == ["checkout.completed", "subscription.created", "payment.succeeded"]


def test_unknown_things_are_permanent_errors(vendor: Sandbox) -> None:
    calls = (
        lambda: vendor.complete("sco_nothing", "paid"),
        lambda: vendor.fetch("sco_nothing"),
        lambda: vendor.cancel("ssub_nothing", True),
        lambda: vendor.cancel("ssub_nothing", False),
        lambda: vendor.refund("spay_nothing", 10_000, "key"),
        lambda: vendor.renew("ssub_nothing"),
    )
    for call in calls:
        with pytest.raises(ProviderError) as caught:
            call()
        assert caught.value.permanent
        assert caught.value.code.startswith("unknown_")


def test_renewal_moves_the_period_on(vendor: Sandbox) -> None:
    checkout = subscribe(vendor)
    first = subscription(vendor, checkout)
    vendor.renew(first.reference)
    second = subscription(vendor, checkout)
    assert second.current_period_start == first.current_period_end
    assert second.current_period_end > second.current_period_start
    assert told(vendor)[-2:] == ["payment.succeeded", "subscription.updated"]


def test_failed_renewal_is_past_due_until_it_is_paid(vendor: Sandbox) -> None:
    checkout = subscribe(vendor)
    first = subscription(vendor, checkout)
    vendor.fail_renewal(first.reference)
    vendor.fail_renewal(first.reference)
    late = subscription(vendor, checkout)
    assert (late.state, late.current_period_start) == ("past_due", first.current_period_end)
    vendor.renew(first.reference)
    paid = subscription(vendor, checkout)
    assert (paid.state, paid.current_period_start) == ("active", first.current_period_end)


def test_a_subscription_marked_to_end_ends_with_its_period_or_is_kept(vendor: Sandbox) -> None:
    checkout = subscribe(vendor)
    reference = subscription(vendor, checkout).reference
    vendor.cancel(reference, at_period_end=True)
    vendor.undo_cancel(reference)
    vendor.renew(reference)
    assert subscription(vendor, checkout).state == "active"
    vendor.cancel(reference, at_period_end=True)
    vendor.renew(reference)
    assert subscription(vendor, checkout).state == "canceled"
    vendor.end(reference)
    for again in (vendor.renew, vendor.undo_cancel):
        with pytest.raises(ProviderError) as caught:
            again(reference)
        assert caught.value.code == "subscription_ended"
    assert told(vendor).count("subscription.canceled") == 1


@pytest.mark.parametrize(("interval", "days"), [("month", (28, 31)), ("quarter", (89, 92)), ("year", (365, 366))])
def test_period_lengths(vendor: Sandbox, interval: str, days: tuple[int, int]) -> None:
    reference = vendor.create_checkout(request_of("chk_1", 75_000_000, interval)).reference
    vendor.complete(reference, "paid")
    found = subscription(vendor, reference)
    assert days[0] <= (found.current_period_end - found.current_period_start).days <= days[1]


def test_refund_keys_are_not_reused_for_something_else(vendor: Sandbox) -> None:
    payment = vendor.fetch(subscribe(vendor)).payments[0].reference
    assert payment is not None
    vendor.refund(payment, 1_000_000, "refund_1")
    with pytest.raises(ProviderError) as caught:
        vendor.refund(payment, 2_000_000, "refund_1")
    assert caught.value.code == "idempotency_mismatch"
    headers, body = vendor.unseen(START)[-1]
    assert vendor.parse_event(headers, body).kind is PaymentKind.REFUNDED


def test_events_are_refused_when_old_or_from_the_future(vendor: Sandbox, clock: Clock) -> None:
    subscribe(vendor)
    headers, body = vendor.unseen(START)[0]
    clock.advance(timedelta(seconds=290))
    vendor.parse_event(headers, body)
    clock.advance(timedelta(seconds=15))
    with pytest.raises(BadSignature):
        vendor.parse_event(headers, body)
    clock.advance(timedelta(seconds=-700))
    with pytest.raises(BadSignature):
        vendor.parse_event(headers, body)


@pytest.mark.parametrize("header", ["", "t=1", "nonsense", f"t=0,v1={'0' * 64}", "t=é,v1=é"])
def test_malformed_headers_are_refused(vendor: Sandbox, header: str) -> None:
    subscribe(vendor)
    _, body = vendor.unseen(START)[0]
    with pytest.raises(BadSignature):
        vendor.parse_event({SIGNATURE_HEADER: header}, body)


def test_the_header_name_has_no_case_but_must_be_one(vendor: Sandbox) -> None:
    subscribe(vendor)
    headers, body = vendor.unseen(START)[0]
    good = headers[SIGNATURE_HEADER]
    vendor.parse_event({"Sandbox-Signature": good}, body)
    with pytest.raises(BadSignature):
        vendor.parse_event({"Sandbox-Signature": good, SIGNATURE_HEADER: "t=1,v1=0"}, body)


def test_secrets_rotate(tmp_path: Path) -> None:
    old, new = make(tmp_path, "old"), make(tmp_path, "new, old")
    subscribe(old)
    headers, body = old.unseen(START)[0]
    new.parse_event(headers, body)
    headers, body = new.unseen(START)[0]
    with pytest.raises(BadSignature):
        old.parse_event(headers, body)


def test_without_a_setting_one_secret_is_kept_privately(tmp_path: Path) -> None:
    makers = [make(tmp_path, "") for _ in range(8)]
    subscribe(makers[0])
    signed: list[tuple[dict[str, str], bytes]] = []
    threads = [threading.Thread(target=lambda one=one: signed.extend(one.unseen(START))) for one in makers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(signed) == 8 * 3
    for headers, body in signed:
        makers[0].parse_event(headers, body)
    kept = tmp_path / "var" / "sandbox-payments.secret"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert len(kept.read_text()) == 64
    assert [path.name for path in kept.parent.glob(".sandbox*")] == []


@pytest.mark.parametrize("body", [b"", b"[]", b'{"id":1}', b'{"id":"e","type":"t","created":"x","data":{}}', b"\xff"])
def test_signed_nonsense_is_a_permanent_error(vendor: Sandbox, clock: Clock, body: bytes) -> None:
    header = sign(SECRET, int(clock.now().timestamp()), body)
    with pytest.raises(ProviderError) as caught:
        vendor.parse_event({SIGNATURE_HEADER: header}, body)
    assert caught.value.permanent


def test_an_unknown_type_is_other(vendor: Sandbox, clock: Clock) -> None:
    body = b'{"id":"sevt_1","type":"planet.aligned","created":1700000000000,"data":{}}'
    event = vendor.parse_event({SIGNATURE_HEADER: sign(SECRET, int(clock.now().timestamp()), body)}, body)
    assert (event.kind, event.checkout_reference) == (PaymentKind.OTHER, None)


def test_unseen_begins_where_asked(vendor: Sandbox, clock: Clock) -> None:
    checkout = subscribe(vendor)
    clock.advance(timedelta(hours=1))
    since = clock.now() - timedelta(minutes=1)
    vendor.renew(subscription(vendor, checkout).reference)
    assert [json.loads(body)["type"] for _, body in vendor.unseen(since)] == [
        "payment.succeeded",
        "subscription.updated",
    ]


def test_the_file_is_private_and_its_failure_is_a_provider_error(tmp_path: Path, vendor: Sandbox) -> None:
    subscribe(vendor)
    path = tmp_path / "var" / "sandbox-payments.sqlite3"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    with pytest.raises(ProviderError) as caught:
        make(blocked).fetch("sco_1")
    assert not caught.value.permanent
