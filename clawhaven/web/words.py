"""What people read for our words: states, reasons, steps, sources. A word we do not know is shown as it is."""

from __future__ import annotations

from dataclasses import dataclass

from clawhaven.billing.dunning import DunningState
from clawhaven.billing.models import Dunning, Subscription
from clawhaven.instances.models import Instance
from clawhaven.instances.states import Reason, State, reasons


@dataclass(frozen=True, slots=True)
class Badge:
    """A state in a word, with its tone: live, busy, calm, warn or bad."""

    label: str
    tone: str


BADGES: dict[str, Badge] = {
    State.PENDING: Badge("Waiting for payment", "calm"),
    State.PROVISIONING: Badge("Being built", "busy"),
    State.ACTIVE: Badge("Live", "live"),
    State.SUSPENDED: Badge("Paused", "warn"),
    State.FAILED: Badge("Could not start", "bad"),
    State.DELETED: Badge("Deleted", "calm"),
}

REASONS: dict[str, str] = {
    Reason.OWNER: "You stopped it. Start it again whenever you like; everything is kept.",
    Reason.PAYMENT: "A payment is missing. It starts by itself once the payment arrives; everything is kept.",
    Reason.BALANCE: "The balance is used up. It starts by itself after a top-up; everything is kept.",
    Reason.ABUSE: "It was stopped for unusual use. Write to us and we will look at it together.",
    Reason.OPERATOR: "We stopped it. Write to us if you do not know why.",
}

STEPS: dict[str, str] = {
    "payment_confirmed": "Payment confirmed",
    "reserve_place": "A place of its own reserved",
    "write_files": "Its settings written and checked",
    "start_gateway": "Assistant started",
    "wait_ready": "It answers",
    "connect_channels": "Channels connected",
    "activate": "Live",
    "drain_and_stop": "Last answer finished, assistant stopped",
    "close_access": "Access to the model closed",
    "open_access": "Access to the model opened",
    "remove_gateway": "Assistant and its data removed",
    "forget": "Its secrets forgotten",
}

STEP_STATES: dict[str, str] = {
    "waiting": "waiting",
    "running": "in progress",
    "done": "done",
    "failed": "failed",
    "undone": "undone",
}

OPERATIONS: dict[str, str] = {
    "provision": "Building the assistant",
    "configure": "Applying the new settings",
    "restart": "Restarting",
    "suspend": "Stopping",
    "resume": "Starting",
    "delete": "Deleting",
}

PERSONAS: dict[str, tuple[str, str]] = {
    "personal": ("Personal assistant", "Plans, reminds, writes and finds things out for you."),
    "dev": ("Dev assistant", "Reads code, explains errors, drafts and reviews changes."),
    "creative": ("Creative partner", "Ideas, texts and honest feedback."),
    "custom": ("Custom", "A blank page: your instructions alone decide."),
}

SOURCES: dict[str, str] = {"person": "Your messages", "automatic": "By itself", "unknown": "Other"}

LEDGER_KINDS: dict[str, str] = {
    "payment": "Payment",
    "plan": "Plan",
    "usage": "Usage",
    "credit": "Credit",
    "refund": "Refund",
    "topup": "Top-up",
    "plan_returned": "Plan returned",
    "credit_expired": "Credit ended",
    "included_credit": "Included credit",
    "coupon": "Coupon",
    "correction": "Correction",
}

SUBSCRIPTIONS: dict[str, Badge] = {
    "incomplete": Badge("Waiting for payment", "calm"),
    "trialing": Badge("Free trial", "live"),
    "active": Badge("Active", "live"),
    "past_due": Badge("Payment failed", "bad"),
    "unpaid": Badge("Not paid", "bad"),
    "canceled": Badge("Ended", "calm"),
}

PAUSED: dict[str, Badge] = {
    "payment": Badge("Paused: not paid", "bad"),
    "refund": Badge("Paused: payment returned", "bad"),
    "dispute": Badge("Paused: payment disputed", "bad"),
}
"""What a plan is called while its assistants are paused for it, by the cause."""

TROUBLE: dict[str, str] = {
    "payment": "A payment for this plan has failed. We need a payment method that works.",
    "refund": "The payment for this period was returned to you, so nothing pays for this plan at the moment.",
    "dispute": "A payment for this plan is disputed at your bank.",
    "ended": "This plan has ended.",
}

TO_DO: dict[str, str] = {
    "refund": "To go on, write to us; we will find a way together.",
    "dispute": "If that is a mistake, ask your bank to take the dispute back, and write to us so that we can help."
    " Once it is settled in our favour, everything goes on by itself. Until then the plan cannot be changed.",
}
"""What a customer can do about trouble that no payment mends."""

INVOICE_STATES: dict[str, str] = {
    "draft": "being prepared",
    "open": "not paid",
    "paid": "paid",
    "void": "void",
    "uncollectible": "given up",
}

POCKETS: dict[str, str] = {"wallet": "Balance", "included": "Included usage"}


def subscription(row: Subscription, trouble: Dunning | None = None) -> Badge:
    """The subscription's state as a badge; one that is to end, or that its trouble has paused, says so."""
    if trouble is not None and trouble.state == DunningState.SUSPENDED and trouble.cause in PAUSED:
        return PAUSED[trouble.cause]
    if row.is_ending and row.state in ("active", "trialing"):
        return Badge("Ends with its period", "warn")
    return SUBSCRIPTIONS.get(row.state, Badge(row.state, "calm"))


def badge(instance: Instance) -> Badge:
    """The instance's state as a badge; one that is on its way out says so."""
    if instance.deletion_asked_at is not None and instance.state != State.DELETED:
        return Badge("Being deleted", "busy")
    return BADGES.get(instance.state, Badge(instance.state, "calm"))


def why(instance: Instance) -> list[str]:
    """A sentence for each reason the instance is paused."""
    if instance.state != State.SUSPENDED:
        return []
    return [REASONS.get(reason, str(reason)) for reason in reasons(instance)]


def persona(name: str) -> tuple[str, str]:
    """Label and description; an operator's own persona is called by its folder's name."""
    return PERSONAS.get(name, (name.replace("-", " ").capitalize(), ""))


DONE: dict[str, str] = {
    "start": "Starting. It takes up to a minute.",
    "stop": "Stopping. Its last answer is finished first.",
    "restart": "Restarting. It takes up to a minute.",
    "delete": "Deleting the assistant and everything it kept.",
    "saved": "Saved. The assistant reads the new settings now.",
    "unchanged": "Nothing was changed.",
    "key-saved": "The key works and is in use. It is kept encrypted and never shown again.",
    "key-removed": "The key is removed. The assistant cannot answer until there is another.",
    "connected": "The bot is known. Open the link below to make it yours.",
    "disconnected": "Disconnected. The bot can be used elsewhere now.",
    "listening": "We are waiting for you at the bot again. Open the link below.",
    "signed-out": "You are signed out.",
    "plan-changed": "The plan is changed.",
    "price-accepted": "The new price holds from now on.",
    "cancelled": "The plan ends with its period. You can take this back until then.",
    "resumed": "The plan goes on.",
    "auto-saved": "Saved. Your balance is filled by itself from now on.",
    "auto-off": "Automatic top-up is off.",
    "redeemed": "The credit is on your balance.",
    "credited": "Booked. The customer sees it in the statement.",
    "refund-asked": "Asked for. The books follow as soon as the payment provider has done it.",
    "coupon-made": "The coupon can be used now.",
    "coupon-disabled": "The coupon cannot be used any more.",
}
"""Sentences for `?done=…`, the only thing an address can make a page say."""
