"""A payment vendor. It knows nothing of instances; we know nothing of its object names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, Protocol


class Capability(StrEnum):
    """What a vendor can do; the product adapts to what is missing."""

    SUBSCRIPTIONS = "subscriptions"
    TOPUPS = "topups"
    TRIALS = "trials"
    COUPONS = "coupons"
    AMOUNT_OFF = "amount_off"
    """Coupons of a fixed amount, next to those of a percentage."""
    CHANGE_PLAN = "change_plan"
    UNDO_CANCEL = "undo_cancel"
    PAUSE = "pause"
    PORTAL = "portal"
    INVOICES = "invoices"
    REFUND = "refund"
    CHARGE_SAVED = "charge_saved"
    CUSTOMERS = "customers"
    """A customer's address can be changed, and who they are taken out."""


@dataclass(frozen=True, slots=True)
class Discount:
    """Something off a subscription's price. Exactly one of `percent_off` (1 to 100) and `amount_off_micros` is set.

    `months` None: every period; 0: the first period only; else as many months. `code` is our own coupon's id.
    """

    code: str
    percent_off: int | None = None
    amount_off_micros: int | None = None
    months: int | None = 0


@dataclass(frozen=True, slots=True)
class Price:
    """What a subscription costs. `plan` is our plan's id; the vendor's product or price is found or made by it."""

    plan: str
    name: str
    amount_micros: int
    interval: str
    """`month`, `quarter` or `year`."""


@dataclass(frozen=True, slots=True)
class CheckoutRequest:
    """What the customer is asked to pay. `key` is our checkout id: the same key makes the same vendor checkout."""

    key: str
    email: str
    description: str
    amount_micros: int
    interval: str | None
    """`month`, `quarter` or `year` for a subscription; None for a single payment."""
    success_url: str
    cancel_url: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    plan: str = ""
    """Our plan's id for a subscription."""
    customer_reference: str | None = None
    """The vendor's customer, once there is one, so that a person is one customer there too."""
    account_id: str = ""
    """Ours; kept in the vendor's metadata of the customer it makes."""
    trial_days: int = 0
    discount: Discount | None = None


@dataclass(frozen=True, slots=True)
class VendorCheckout:
    """The vendor's side of a checkout."""

    reference: str
    url: str


class PaymentKind(StrEnum):
    """Our vocabulary for what a vendor tells us."""

    CHECKOUT_COMPLETED = "checkout_completed"
    CHECKOUT_EXPIRED = "checkout_expired"
    SUBSCRIPTION_CHANGED = "subscription_changed"
    PAYMENT_SUCCEEDED = "payment_succeeded"
    PAYMENT_FAILED = "payment_failed"
    TRIAL_ENDING = "trial_ending"
    REFUNDED = "refunded"
    DISPUTED = "disputed"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class PaymentEvent:
    """A verified event. Only its identity and what to re-read are trusted, never its order."""

    event_id: str
    kind: PaymentKind
    vendor_type: str
    checkout_reference: str | None
    subscription_reference: str | None
    created_at: datetime
    payment_reference: str | None = None
    """For events that name only a payment (refunds, disputes); what a receipt of ours calls `reference`."""
    checkout_key: str | None = None
    """Our checkout's id from the vendor's metadata: the way back when the answer with its reference was lost."""
    is_made: bool = False
    """Made by `unseen` of the vendor's lists: the vendor itself may have told the same under another id."""


@dataclass(frozen=True, slots=True)
class VendorSubscription:
    """A subscription as the vendor has it now. `state` uses the field's words (active, past_due, canceled …)."""

    reference: str
    state: str
    current_period_start: datetime
    current_period_end: datetime
    cancel_at_period_end: bool
    plan: str | None = None
    """Our plan's id as the vendor has it now; None where the vendor cannot tell."""
    amount_micros: int | None = None
    """The recurring price before discounts; None where the vendor cannot tell."""
    trial_end: datetime | None = None
    pay_url: str | None = None
    """Where the customer pays an invoice that failed or needs 3-D Secure; None: nothing is owed."""
    is_paused: bool = False
    """No renewal is collected (`pause`), whatever the state says."""


@dataclass(frozen=True, slots=True)
class VendorPayment:
    """A payment that succeeded. `reference` is what a refund names."""

    reference: str
    amount_micros: int
    """What was paid; 0 for a paid period that a coupon made free."""
    period_start: datetime | None = None
    """Start of the subscription period it pays for; None for single payments, prorations and trials."""
    period_end: datetime | None = None
    refunded_micros: int | None = 0
    """Given back so far, all refunds together; what was lost in a dispute counts as given back. None: it did not tell,
    and of disputes neither."""
    dispute: str | None = None
    """`open`, `won` or `lost`; None: never disputed. `inquiry`, then `inquiry_closed`: a bank asked, and has taken no
    money."""
    dispute_due_at: datetime | None = None
    """Until when an answer to the open dispute is taken; None where the vendor does not tell."""
    disputed_micros: int | None = None
    """How much of it is, or was, disputed; None: all of it, or the vendor does not tell."""
    fee_micros: int | None = None
    """What the vendor kept; None where it does not tell."""
    paid_at: datetime | None = None
    plan: str | None = None
    """Our plan's id the period was bought at; None where the vendor cannot tell."""


@dataclass(frozen=True, slots=True)
class FeeRate:
    """What a vendor keeps of each payment by its price list: per cent of it, and a fixed amount."""

    percent: Decimal
    fixed_micros: int

    def of(self, amount_micros: int, payments: int = 1) -> int:
        """An estimate for so many payments of this sum, in micro-dollars."""
        return int(amount_micros * self.percent / 100) + payments * self.fixed_micros


@dataclass(frozen=True, slots=True)
class ForeignPayment:
    """A payment in another currency than US dollars: nothing is given for it, and it goes back in whole.

    `paid`: what was paid, for people: `49.00 EUR`. `is_returned`: all of it has gone back.
    """

    reference: str
    paid: str
    is_returned: bool = False


@dataclass(frozen=True, slots=True)
class VendorState:
    """The vendor's current truth about one checkout, every payment that came of it, and its subscription."""

    checkout_state: str
    """`open`, `processing` (the customer has paid, the money is on its way: a bank debit), `paid`, `declined`,
    `cancelled` or `expired`. A trial's checkout without a payment is `paid`."""
    payments: tuple[VendorPayment, ...]
    subscription: VendorSubscription | None
    customer_reference: str | None = None
    foreign: tuple[ForeignPayment, ...] = ()
    """What was paid in another currency; not in `payments`."""


@dataclass(frozen=True, slots=True)
class VendorInvoice:
    """An invoice or receipt. `state`: draft, open, paid, void or uncollectible. URLs are the vendor's, short-lived."""

    reference: str
    number: str
    state: str
    amount_micros: int
    created_at: datetime
    page_url: str | None
    pdf_url: str | None
    description: str = ""


@dataclass(frozen=True, slots=True)
class SavedMethod:
    """How the customer pays without being asked again: `visa`, `4242`, 12, 2030."""

    brand: str
    last4: str
    expires_month: int | None = None
    expires_year: int | None = None


@dataclass(frozen=True, slots=True)
class ChargeRequest:
    """A payment with the saved method while the customer is away. The same key is charged once."""

    key: str
    customer_reference: str
    amount_micros: int
    description: str
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ListedSubscription:
    """One line of the vendor's own list, for reconciling. `checkout_key` is our checkout's id from its metadata; `seen`
    is what the list tells of it, without `pay_url`."""

    reference: str
    state: str
    checkout_key: str | None
    customer_reference: str | None
    seen: VendorSubscription | None = None


class Payments(Protocol):
    """A payment vendor. Raises ProviderError; `parse_event` raises BadSignature.

    A verb whose capability is missing raises a permanent ProviderError `not_offered`.
    """

    name: str
    capabilities: frozenset[Capability]
    is_for_production: bool
    is_customer_by_email: bool
    """True where a mail address alone decides whose payments a checkout joins; whoever types it joins them."""
    fee_rate: FeeRate | None
    """For an estimate where the vendor does not tell the fee of each payment (`VendorPayment.fee_micros`)."""
    checkout_origins: Sequence[str]
    """Origins (`https://…`) the browser is sent to for paying; empty where the page is ours."""

    def create_checkout(self, request: CheckoutRequest) -> VendorCheckout:
        """Create the vendor's checkout for `request.key`, or return the one made before."""

    def fetch(self, checkout_reference: str) -> VendorState:
        """The vendor's current state of a checkout (or of a `charge_saved`) and everything that came of it."""

    def cancel(self, subscription_reference: str, at_period_end: bool) -> None:
        """End a subscription; already ended is success. One that the vendor does not know is a permanent error
        `unknown_subscription`."""

    def undo_cancel(self, subscription_reference: str) -> None:
        """Take back a cancel at period end; nothing to take back is success; ended for good is a permanent error."""

    def pause(self, subscription_reference: str) -> None:
        """Collect no renewal until `resume`: a period that begins meanwhile is not charged, then or later. What was
        owed before stays so. Paused already, ended, or to end anyway is success."""

    def resume(self, subscription_reference: str) -> None:
        """Collect renewals again, from the next one on; not paused, or ended, is success."""

    def change_plan(self, subscription_reference: str, price: Price, key: str) -> None:
        """Move a subscription to another price now, the rest of the period prorated; already there is success."""

    def refund(self, payment_reference: str, amount_micros: int | None, key: str) -> str:
        """Give money back once per `key`; None: all of a payment, in its own currency. Returns the vendor's refund
        reference."""

    def charge_saved(self, request: ChargeRequest) -> VendorCheckout:
        """Charge the saved method once per key. Never raises for a declined card: `fetch(reference)` says how it
        ended (`paid`, `declined`, or `open` while it needs the customer, who then goes to `url`)."""

    def find_charge(self, request: ChargeRequest) -> VendorCheckout | None:
        """What `charge_saved` made of the same request before, or None. Charges nothing."""

    def portal_url(self, customer_reference: str, return_url: str) -> str:
        """A short-lived address of the vendor's page for payment method and invoices."""

    def invoices(self, customer_reference: str) -> list[VendorInvoice]:
        """The customer's invoices, newest first, at most 100."""

    def saved_method(self, customer_reference: str) -> SavedMethod | None:
        """What `charge_saved` would charge, or None."""

    def move_customer(self, customer_reference: str, email: str) -> None:
        """The customer's address from now on, for receipts and the portal; a customer who is gone is success."""

    def remove_customer(self, customer_reference: str) -> None:
        """Take out who a customer is, and how they pay; every subscription of theirs ends. Payments and invoices stay
        in the vendor's books. Gone is success."""

    def list_subscriptions(self) -> list[ListedSubscription]:
        """Every subscription of ours that the vendor has not ended, for reconciling."""

    def parse_event(self, headers: Mapping[str, str], body: bytes) -> PaymentEvent:
        """Verify over the raw bytes and normalise. Raises BadSignature before looking at anything."""

    def unseen(self, since: datetime) -> list[tuple[dict[str, Any], bytes]]:
        """Events since then as (headers, body), for the periodic sync; empty where the vendor keeps none."""


class BadSignature(Exception):
    """The event was not signed by the vendor, or too long ago."""
