"""A payment vendor. It knows nothing of instances; we know nothing of its object names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol


class Capability(StrEnum):
    """What a vendor can do; the product adapts to what is missing."""

    SUBSCRIPTIONS = "subscriptions"
    TOPUPS = "topups"
    PORTAL = "portal"
    REFUND = "refund"
    CHARGE_SAVED = "charge_saved"


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
    PAYMENT_FAILED = "payment_failed"
    REFUNDED = "refunded"
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


@dataclass(frozen=True, slots=True)
class VendorSubscription:
    """A subscription as the vendor has it now. `state` uses the field's words (active, past_due, canceled …)."""

    reference: str
    state: str
    current_period_start: datetime
    current_period_end: datetime
    cancel_at_period_end: bool


@dataclass(frozen=True, slots=True)
class VendorPayment:
    """A payment that succeeded. `reference` is what a refund names."""

    reference: str
    amount_micros: int


@dataclass(frozen=True, slots=True)
class VendorState:
    """The vendor's current truth about one checkout, every payment that came of it, and its subscription."""

    checkout_state: str
    """`open`, `paid`, `declined`, `cancelled` or `expired`."""
    payments: tuple[VendorPayment, ...]
    subscription: VendorSubscription | None


class Payments(Protocol):
    """A payment vendor. Raises ProviderError; `parse_event` raises BadSignature."""

    name: str
    capabilities: frozenset[Capability]
    is_for_production: bool

    def create_checkout(self, request: CheckoutRequest) -> VendorCheckout:
        """Create the vendor's checkout for `request.key`, or return the one made before."""

    def fetch(self, checkout_reference: str) -> VendorState:
        """The vendor's current state of a checkout and what came of it."""

    def cancel(self, subscription_reference: str, at_period_end: bool) -> None:
        """End a subscription; already ended is success."""

    def refund(self, payment_reference: str, amount_micros: int, key: str) -> str:
        """Give money back once per `key`; returns the vendor's refund reference."""

    def parse_event(self, headers: Mapping[str, str], body: bytes) -> PaymentEvent:
        """Verify over the raw bytes and normalise. Raises BadSignature before looking at anything."""

    def unseen(self, since: datetime) -> list[tuple[dict[str, Any], bytes]]:
        """Events since then as (headers, body), for the periodic sync; empty where the vendor keeps none."""


class BadSignature(Exception):
    """The event was not signed by the vendor, or too long ago."""
