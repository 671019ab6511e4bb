"""What every payment provider must do. A provider's test subclasses PaymentsContract.

It fills in `payments` and `finish`, and, as far as its vendor can do it, `use_card`, `turn_period` and `dispute`: what
those three rehearse is left out where a subclass does not override them.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import BadSignature, Capability, Discount, PaymentKind, Payments
from tests.contracts.rehearsed import CHEAPER, DEARER, START, Card, Rehearsed, charge_of, needs, request_of

__all__ = ["CHEAPER", "DEARER", "START", "Card", "PaymentsContract", "charge_of", "needs", "request_of"]


class PaymentsContract(Rehearsed):
    """The contract itself. A provider's test class derives from this one."""

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
        with pytest.raises(ProviderError) as caught:
            payments.cancel("nothing_like_it", at_period_end=False)
        assert (caught.value.permanent, caught.value.code) == (True, "unknown_subscription")

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
        needs(payments, Capability.REFUND)
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

    def test_refunds_add_up_and_lead_back_to_their_payment(self, payments: Payments) -> None:
        needs(payments, Capability.REFUND)
        reference, state = self.paid(payments, request_of("chk_1", 10_000_000, None))
        payment = state.payments[0]
        assert payment.refunded_micros == 0
        for key, total in (("refund_1", 4_000_000), ("refund_1", 4_000_000), ("refund_2", 8_000_000)):
            payments.refund(payment.reference, 4_000_000, key)
            assert payments.fetch(reference).payments[0].refunded_micros == total
        events = [payments.parse_event(headers, body) for headers, body in self.events(payments)]
        told = [event for event in events if event.kind is PaymentKind.REFUNDED]
        assert {event.payment_reference for event in told} == {payment.reference}

    def test_a_payment_says_which_period_it_pays_for(self, payments: Payments) -> None:
        reference, subscription = self.subscribed(payments)
        payment = payments.fetch(reference).payments[0]
        assert payment.period_start == subscription.current_period_start
        assert payment.period_end == subscription.current_period_end
        assert payment.paid_at is None or payment.paid_at.tzinfo is not None
        assert payment.fee_micros is None or 0 < payment.fee_micros < payment.amount_micros
        _, single = self.paid(payments, request_of("chk_2", 10_000_000, None))
        assert single.payments[0].period_start is None

    def test_a_person_is_one_customer(self, payments: Payments) -> None:
        first, _ = self.paid(payments, request_of("chk_1"))
        reference = payments.fetch(first).customer_reference
        assert reference is not None
        _, second = self.paid(payments, request_of("chk_2", 10_000_000, None, customer_reference=reference))
        assert second.customer_reference == reference

    def test_a_trial_is_paid_for_by_nothing_yet(self, payments: Payments) -> None:
        needs(payments, Capability.TRIALS)
        reference, subscription = self.subscribed(payments, trial_days=14)
        state = payments.fetch(reference)
        assert (state.checkout_state, [one for one in state.payments if one.amount_micros]) == ("paid", [])
        assert all(one.period_start is None for one in state.payments)
        assert (subscription.state, subscription.cancel_at_period_end) == ("trialing", False)
        assert subscription.trial_end is not None
        assert timedelta(days=13) < subscription.trial_end - datetime.now(UTC) <= timedelta(days=14, minutes=1)

    def test_a_trial_ends_in_a_paid_period(self, payments: Payments) -> None:
        needs(payments, Capability.TRIALS)
        reference, before = self.subscribed(payments, trial_days=14)
        self.turn_period(payments, before.reference)
        state = payments.fetch(reference)
        assert state.subscription is not None
        assert state.subscription.state == "active"
        assert [one.amount_micros for one in state.payments if one.period_start] == [29_000_000]

    @pytest.mark.parametrize(
        ("discount", "amount_micros"),
        [
            (Discount("HALF", percent_off=50), 14_500_000),
            (Discount("FIVE", amount_off_micros=5_000_000, months=3), 24_000_000),
            (Discount("FREE", percent_off=100, months=None), 0),
        ],
    )
    def test_a_coupon_lowers_what_is_paid_and_not_the_price(
        self, payments: Payments, discount: Discount, amount_micros: int
    ) -> None:
        needs(payments, Capability.COUPONS, *([Capability.AMOUNT_OFF] if discount.amount_off_micros else []))
        reference, subscription = self.subscribed(payments, discount=discount)
        assert subscription.amount_micros in (29_000_000, None)
        (payment,) = payments.fetch(reference).payments
        assert (payment.amount_micros, payment.period_start) == (amount_micros, subscription.current_period_start)

    def test_a_renewal_pays_for_the_next_period(self, payments: Payments) -> None:
        reference, before = self.subscribed(payments)
        self.turn_period(payments, before.reference)
        state = payments.fetch(reference)
        assert state.subscription is not None
        assert state.subscription.current_period_start > before.current_period_start
        first, second = state.payments
        assert first.period_start == before.current_period_start
        assert (second.period_start, second.amount_micros) == (state.subscription.current_period_start, 29_000_000)

    def test_a_failed_renewal_can_be_paid_by_its_customer(self, payments: Payments) -> None:
        reference, before = self.subscribed(payments)
        self.use_card(payments, self.customer(payments, reference), "declined")
        self.turn_period(payments, before.reference)
        state = payments.fetch(reference)
        assert state.subscription is not None
        assert state.subscription.state == "past_due"
        assert state.subscription.pay_url
        assert len(state.payments) == 1
        kinds = {payments.parse_event(headers, body).kind for headers, body in self.events(payments)}
        assert PaymentKind.PAYMENT_FAILED in kinds

    def test_a_dearer_plan_is_paid_for_the_rest_of_the_period(self, payments: Payments) -> None:
        needs(payments, Capability.CHANGE_PLAN)
        reference, before = self.subscribed(payments)
        for _ in range(2):
            payments.change_plan(before.reference, DEARER, "change_1")
        state = payments.fetch(reference)
        assert state.subscription is not None
        assert state.subscription.plan in (DEARER.plan, None)
        assert state.subscription.amount_micros in (DEARER.amount_micros, None)
        first, *prorations = state.payments
        assert first.period_start is not None
        assert all(one.period_start is None for one in prorations)
        assert 29_000_000 <= sum(one.amount_micros for one in prorations) <= 30_000_000

    def test_a_cheaper_plan_costs_nothing_now(self, payments: Payments) -> None:
        needs(payments, Capability.CHANGE_PLAN)
        reference, before = self.subscribed(payments)
        payments.change_plan(before.reference, CHEAPER, "change_1")
        payments.change_plan(before.reference, CHEAPER, "change_2")  # already there
        state = payments.fetch(reference)
        assert state.subscription is not None
        assert state.subscription.amount_micros in (CHEAPER.amount_micros, None)
        assert sum(one.amount_micros for one in state.payments) == 29_000_000

    def test_a_cancel_is_taken_back(self, payments: Payments) -> None:
        needs(payments, Capability.UNDO_CANCEL)
        reference, subscription = self.subscribed(payments)
        payments.undo_cancel(subscription.reference)
        payments.cancel(subscription.reference, at_period_end=True)
        for _ in range(2):
            payments.undo_cancel(subscription.reference)
        kept = payments.fetch(reference).subscription
        assert kept is not None
        assert (kept.state, kept.cancel_at_period_end) == ("active", False)
        payments.cancel(subscription.reference, at_period_end=False)
        with pytest.raises(ProviderError) as caught:
            payments.undo_cancel(subscription.reference)
        assert caught.value.permanent

    def test_a_cancel_taken_back_can_be_made_again_at_once(self, payments: Payments) -> None:
        needs(payments, Capability.UNDO_CANCEL)
        reference, subscription = self.subscribed(payments)
        for is_ending in (True, False, True, False, True):
            if is_ending:
                payments.cancel(subscription.reference, at_period_end=True)
            else:
                payments.undo_cancel(subscription.reference)
            seen = payments.fetch(reference).subscription
            assert seen is not None
            assert seen.cancel_at_period_end is is_ending

    def test_a_period_that_begins_while_paused_is_never_charged(self, payments: Payments) -> None:
        needs(payments, Capability.PAUSE)
        reference, before = self.subscribed(payments)
        assert not before.is_paused
        for is_paused, paid in ((True, 1), (False, 2), (True, 2), (False, 3)):
            for _ in range(2):
                (payments.pause if is_paused else payments.resume)(before.reference)
            self.turn_period(payments, before.reference)
            state = payments.fetch(reference)
            assert state.subscription is not None
            assert (state.subscription.is_paused, len(state.payments)) == (is_paused, paid)
            assert state.subscription.pay_url is None
        assert len({one.period_start for one in state.payments}) == 3
        payments.cancel(before.reference, at_period_end=False)
        payments.pause(before.reference)
        payments.resume(before.reference)
        ended = payments.fetch(reference).subscription
        assert ended is not None
        assert ended.state == "canceled"

    def test_the_saved_card_is_charged_once_per_key(self, payments: Payments) -> None:
        needs(payments, Capability.CHARGE_SAVED)
        reference, _ = self.paid(payments, request_of("chk_1", 10_000_000, None))
        customer = self.customer(payments, reference)
        method = payments.saved_method(customer)
        assert method is not None
        assert (method.brand, len(method.last4)) == ("visa", 4)
        assert payments.find_charge(charge_of("chk_2", customer)) is None
        made = payments.charge_saved(charge_of("chk_2", customer))
        assert payments.charge_saved(charge_of("chk_2", customer)).reference == made.reference
        assert payments.find_charge(charge_of("chk_2", customer)) == made
        state = payments.fetch(made.reference)
        assert (state.checkout_state, state.subscription, state.customer_reference) == ("paid", None, customer)
        assert [(one.amount_micros, one.period_start) for one in state.payments] == [(20_000_000, None)]

    def test_a_declined_or_unconfirmed_charge_is_an_answer_and_no_error(self, payments: Payments) -> None:
        needs(payments, Capability.CHARGE_SAVED)
        reference, _ = self.paid(payments, request_of("chk_1", 10_000_000, None))
        customer = self.customer(payments, reference)
        self.use_card(payments, customer, "declined")
        declined = payments.fetch(payments.charge_saved(charge_of("chk_2", customer)).reference)
        assert (declined.checkout_state, declined.payments) == ("declined", ())
        self.use_card(payments, customer, "needs_3ds")
        waiting = payments.charge_saved(charge_of("chk_3", customer))
        assert waiting.url.startswith(("http://", "https://"))
        assert payments.fetch(waiting.reference).checkout_state == "open"
        self.finish(payments, waiting.reference, "paid")
        confirmed = payments.fetch(waiting.reference)
        assert confirmed.checkout_state == "paid"
        assert [one.amount_micros for one in confirmed.payments] == [20_000_000]

    def test_the_portal_and_the_invoices_are_the_customers(self, payments: Payments) -> None:
        reference, _ = self.paid(payments, request_of("chk_1"))
        if Capability.PORTAL in payments.capabilities:
            url = payments.portal_url(self.customer(payments, reference), "http://127.0.0.1/billing")
            assert url.startswith(("http://", "https://"))
        if Capability.INVOICES in payments.capabilities:
            (invoice,) = payments.invoices(self.customer(payments, reference))
            assert (invoice.state, invoice.amount_micros) == ("paid", 29_000_000)
            assert invoice.number
            assert invoice.created_at.tzinfo is not None
            assert (invoice.page_url or "").startswith(("http://", "https://"))

    def test_subscriptions_are_listed_until_they_end(self, payments: Payments) -> None:
        needs(payments, Capability.SUBSCRIPTIONS)
        _, subscription = self.subscribed(payments)
        (listed,) = payments.list_subscriptions()
        assert (listed.reference, listed.state, listed.checkout_key) == (subscription.reference, "active", "chk_1")
        assert listed.seen == subscription
        if Capability.PAUSE in payments.capabilities:
            payments.pause(subscription.reference)
            (paused,) = payments.list_subscriptions()
            assert paused.seen is not None
            assert paused.seen.is_paused
        payments.cancel(subscription.reference, at_period_end=False)
        assert payments.list_subscriptions() == []

    def test_a_customer_moves_and_is_taken_out(self, payments: Payments) -> None:
        needs(payments, Capability.CUSTOMERS)
        reference, _ = self.subscribed(payments)
        before, customer = payments.fetch(reference), self.customer(payments, reference)
        for _ in range(2):
            payments.move_customer(customer, "new@example.com")
        for _ in range(2):
            payments.remove_customer(customer)
        payments.move_customer(customer, "newer@example.com")
        after = payments.fetch(reference)
        assert after.subscription is not None
        assert after.subscription.state == "canceled"
        assert [one.amount_micros for one in after.payments] == [one.amount_micros for one in before.payments]
        assert payments.list_subscriptions() == []
        if Capability.REFUND in payments.capabilities:
            payments.refund(after.payments[0].reference, None, "whole")
            assert payments.fetch(reference).payments[0].refunded_micros == after.payments[0].amount_micros

    def test_a_dispute_is_told_and_a_lost_one_is_money_gone(self, payments: Payments) -> None:
        reference, state = self.paid(payments, request_of("chk_1"))
        payment = state.payments[0].reference
        for outcome, gone_micros in (("open", 0), ("lost", 29_000_000)):
            self.dispute(payments, payment, outcome)  # type: ignore[arg-type]
            seen = payments.fetch(reference).payments[0]
            assert (seen.dispute, seen.refunded_micros) == (outcome, gone_micros)
        events = [payments.parse_event(headers, body) for headers, body in self.events(payments)]
        told = [event for event in events if event.kind is PaymentKind.DISPUTED]
        assert {event.payment_reference for event in told} == {payment}

    def test_what_a_vendor_lacks_is_refused_for_good(self, payments: Payments) -> None:
        verbs = {
            Capability.UNDO_CANCEL: lambda: payments.undo_cancel("any"),
            Capability.CHANGE_PLAN: lambda: payments.change_plan("any", DEARER, "change_1"),
            Capability.PAUSE: lambda: payments.pause("any"),
            Capability.AMOUNT_OFF: lambda: payments.create_checkout(
                request_of("chk_2", discount=Discount("FIVE", amount_off_micros=5_000_000))
            ),
            Capability.REFUND: lambda: payments.refund("any", 1_000_000, "refund_1"),
            Capability.CHARGE_SAVED: lambda: payments.charge_saved(charge_of("chk_1", "any")),
            Capability.PORTAL: lambda: payments.portal_url("any", "http://127.0.0.1/billing"),
            Capability.INVOICES: lambda: payments.invoices("any"),
            Capability.CUSTOMERS: lambda: payments.move_customer("any", "new@example.com"),
        }
        for capability, call in verbs.items():
            if capability not in payments.capabilities:
                with pytest.raises(ProviderError) as caught:
                    call()
                assert (caught.value.permanent, caught.value.code) == (True, "not_offered")
