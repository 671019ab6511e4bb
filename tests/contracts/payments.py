"""What every payment provider must do. A provider's test subclasses PaymentsContract and fills in three things."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest

from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import BadSignature, Capability, CheckoutRequest, PaymentKind, Payments

START = datetime(2020, 1, 1, tzinfo=UTC)


def request_of(key: str, amount_micros: int = 29_000_000, interval: str | None = "month") -> CheckoutRequest:
    """A checkout request with everything that does not matter filled in."""
    return CheckoutRequest(
        key=key,
        email="user@example.com",
        description="Personal",
        amount_micros=amount_micros,
        interval=interval,
        success_url="http://127.0.0.1/success",
        cancel_url="http://127.0.0.1/cancel",
        metadata={"checkout": key},
    )


class PaymentsContract:
    """Subclasses override the fixture and the two methods."""

    @pytest.fixture
    def payments(self) -> Payments:
        """The provider, against a fresh vendor."""
        raise NotImplementedError

    def finish(self, payments: Payments, reference: str, outcome: Literal["paid", "declined", "cancelled"]) -> None:
        """What the customer does on the vendor's page."""
        raise NotImplementedError

    def events(self, payments: Payments) -> list[tuple[dict[str, Any], bytes]]:
        """Everything the vendor has told so far, signed now, oldest first."""
        return payments.unseen(START)

    def test_the_same_key_makes_the_same_checkout(self, payments: Payments) -> None:
        first = payments.create_checkout(request_of("chk_1"))
        assert payments.create_checkout(request_of("chk_1")) == first
        assert payments.create_checkout(request_of("chk_2")).reference != first.reference
        assert first.url.startswith(("http://", "https://"))

    def test_a_key_is_not_used_for_two_prices(self, payments: Payments) -> None:
        payments.create_checkout(request_of("chk_1"))
        with pytest.raises(ProviderError) as caught:
            payments.create_checkout(request_of("chk_1", amount_micros=30_000_000))
        assert caught.value.permanent

    def test_many_callers_with_one_key_get_one_checkout(self, payments: Payments) -> None:
        references: list[str] = []
        threads = [
            threading.Thread(target=lambda: references.append(payments.create_checkout(request_of("chk_1")).reference))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(references) == 8
        assert len(set(references)) == 1

    def test_a_new_checkout_is_open_and_unpaid(self, payments: Payments) -> None:
        state = payments.fetch(payments.create_checkout(request_of("chk_1")).reference)
        assert (state.checkout_state, state.payments) == ("open", ())
        assert state.subscription is None

    def test_a_paid_subscription(self, payments: Payments) -> None:
        reference = payments.create_checkout(request_of("chk_1")).reference
        self.finish(payments, reference, "paid")
        state = payments.fetch(reference)
        assert state.checkout_state == "paid"
        assert [payment.amount_micros for payment in state.payments] == [29_000_000]
        assert state.payments[0].reference
        assert state.subscription is not None
        assert state.subscription.state == "active"
        assert not state.subscription.cancel_at_period_end
        length = state.subscription.current_period_end - state.subscription.current_period_start
        assert timedelta(days=28) <= length <= timedelta(days=31)

    def test_a_single_payment_has_no_subscription(self, payments: Payments) -> None:
        reference = payments.create_checkout(request_of("chk_1", 10_000_000, None)).reference
        self.finish(payments, reference, "paid")
        state = payments.fetch(reference)
        assert (state.checkout_state, state.subscription) == ("paid", None)
        assert [payment.amount_micros for payment in state.payments] == [10_000_000]

    def test_cancelled_is_final(self, payments: Payments) -> None:
        reference = payments.create_checkout(request_of("chk_1")).reference
        self.finish(payments, reference, "cancelled")
        state = payments.fetch(reference)
        assert state.checkout_state in ("cancelled", "expired")
        assert state.payments == ()

    def test_an_unknown_reference_is_a_permanent_error(self, payments: Payments) -> None:
        with pytest.raises(ProviderError) as caught:
            payments.fetch("nothing_like_it")
        assert caught.value.permanent

    def test_events_lead_back_to_the_checkout(self, payments: Payments) -> None:
        reference = payments.create_checkout(request_of("chk_1")).reference
        self.finish(payments, reference, "paid")
        events = [payments.parse_event(headers, body) for headers, body in self.events(payments)]
        assert len({event.event_id for event in events}) == len(events)
        completed = [event for event in events if event.kind is PaymentKind.CHECKOUT_COMPLETED]
        assert [event.checkout_reference for event in completed] == [reference]
        subscription = payments.fetch(reference).subscription
        assert subscription is not None
        assert subscription.reference in {event.subscription_reference for event in events}
        assert all(event.created_at.tzinfo is not None for event in events)

    def test_a_changed_body_or_no_signature_is_refused(self, payments: Payments) -> None:
        reference = payments.create_checkout(request_of("chk_1")).reference
        self.finish(payments, reference, "paid")
        headers, body = self.events(payments)[0]
        with pytest.raises(BadSignature):
            payments.parse_event(headers, body + b" ")
        with pytest.raises(BadSignature):
            payments.parse_event({"content-type": "application/json"}, body)

    def test_ending_a_subscription_twice_is_success(self, payments: Payments) -> None:
        reference = payments.create_checkout(request_of("chk_1")).reference
        self.finish(payments, reference, "paid")
        subscription = payments.fetch(reference).subscription
        assert subscription is not None
        payments.cancel(subscription.reference, at_period_end=True)
        marked = payments.fetch(reference).subscription
        assert marked is not None
        assert (marked.state, marked.cancel_at_period_end) == ("active", True)
        for _ in range(2):
            payments.cancel(subscription.reference, at_period_end=False)
        ended = payments.fetch(reference).subscription
        assert ended is not None
        assert ended.state == "canceled"

    def test_a_refund_happens_once_per_key_and_never_beyond_the_payment(self, payments: Payments) -> None:
        if Capability.REFUND not in payments.capabilities:
            pytest.skip("this vendor has no refunds")
        reference = payments.create_checkout(request_of("chk_1", 10_000_000, None)).reference
        self.finish(payments, reference, "paid")
        payment = payments.fetch(reference).payments[0].reference
        assert payment is not None
        first = payments.refund(payment, 6_000_000, "refund_1")
        assert payments.refund(payment, 6_000_000, "refund_1") == first
        with pytest.raises(ProviderError) as caught:
            payments.refund(payment, 6_000_000, "refund_2")
        assert caught.value.permanent
        assert payments.refund(payment, 4_000_000, "refund_3") != first
