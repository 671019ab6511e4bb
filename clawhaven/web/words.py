"""What people read for our words: states, reasons, steps, sources. A word we do not know is shown as it is."""

from __future__ import annotations

from dataclasses import dataclass

from clawhaven.billing.dunning import DunningState
from clawhaven.billing.models import Dunning, Subscription
from clawhaven.instances.models import Instance
from clawhaven.instances.states import Reason, State, reasons
from clawhaven.web.languages import N_, Texts, _, price


@dataclass(frozen=True, slots=True)
class Badge:
    """A state in a word, with its tone: live, busy, calm, warn or bad."""

    text: str
    tone: str

    @property
    def label(self) -> str:
        """The word in the current language."""
        return _(self.text)


BADGES: dict[str, Badge] = {
    State.PENDING: Badge(N_("Waiting for payment"), "calm"),
    State.PROVISIONING: Badge(N_("Being built"), "busy"),
    State.ACTIVE: Badge(N_("Live"), "live"),
    State.SUSPENDED: Badge(N_("Paused"), "warn"),
    State.FAILED: Badge(N_("Could not start"), "bad"),
    State.DELETED: Badge(N_("Deleted"), "calm"),
}

REASONS = Texts(
    {
        Reason.OWNER: N_("You stopped it. Start it again whenever you like; everything is kept."),
        Reason.PAYMENT: N_("A payment is missing. It starts by itself once the payment arrives; everything is kept."),
        Reason.BALANCE: N_("The balance is used up. It starts by itself after a top-up; everything is kept."),
        Reason.ABUSE: N_("It was stopped for unusual use. Write to us and we will look at it together."),
        Reason.OPERATOR: N_("We stopped it. Write to us if you do not know why."),
    }
)

STEPS = Texts(
    {
        "payment_confirmed": N_("Payment confirmed"),
        "reserve_place": N_("A place of its own reserved"),
        "write_files": N_("Its settings written and checked"),
        "start_gateway": N_("Assistant started"),
        "wait_ready": N_("It answers"),
        "connect_channels": N_("Channels connected"),
        "activate": N_("Live"),
        "drain_and_stop": N_("Last answer finished, assistant stopped"),
        "close_access": N_("Access to the model closed"),
        "open_access": N_("Access to the model opened"),
        "remove_gateway": N_("Assistant and its data removed"),
        "forget": N_("Its secrets forgotten"),
        "copy_state": N_("Everything it keeps copied and sealed"),
        "keep_safety": N_("A copy of now put aside"),
        "bring_back": N_("The backup brought back"),
        "change_version": N_("The other version put in place"),
        "make_key": N_("A new pass made"),
    }
)

STEP_STATES = Texts(
    {
        "waiting": N_("waiting"),
        "running": N_("in progress"),
        "done": N_("done"),
        "failed": N_("failed"),
        "undone": N_("undone"),
    }
)

MADE_FOR = Texts(
    {
        "daily": N_("Every night"),
        "owner": N_("By hand"),
        "restore": N_("Before another one was brought back"),
        "upgrade": N_("Before an upgrade"),
    }
)

OPERATIONS = Texts(
    {
        "provision": N_("Building the assistant"),
        "configure": N_("Applying the new settings"),
        "restart": N_("Restarting"),
        "suspend": N_("Stopping"),
        "resume": N_("Starting"),
        "delete": N_("Deleting"),
        "backup": N_("Making a backup"),
        "restore": N_("Bringing a backup back"),
        "upgrade": N_("Changing to another version"),
        "replace_key": N_("Giving it a new pass"),
    }
)

PERSONAS: dict[str, tuple[str, str]] = {
    "personal": (N_("Personal assistant"), N_("Plans, reminds, writes and finds things out for you.")),
    "dev": (N_("Dev assistant"), N_("Reads code, explains errors, drafts and reviews changes.")),
    "creative": (N_("Creative partner"), N_("Ideas, texts and honest feedback.")),
    "custom": (N_("Custom"), N_("A blank page: your instructions alone decide.")),
}

ACTIONS = Texts({"start": N_("Start"), "stop": N_("Stop"), "restart": N_("Restart")})

SOURCES = Texts(
    {
        "person": N_("Your messages"),
        "heartbeat": N_("Regular look-arounds"),
        "cron": N_("Reminders and schedules"),
        "subagent": N_("Helpers at work"),
        "compaction": N_("Keeping long chats short"),
        "automatic": N_("By itself"),
        "program": N_("Your programs"),
        "unknown": N_("Other"),
    }
)

FIELDS = Texts({"name": N_("Name"), "persona": N_("Persona"), "instructions": N_("Instructions"), "model": N_("Model")})
"""An assistant's settings."""

FILES = Texts(
    {
        "SOUL.md": N_("Soul"),
        "USER.md": N_("About you"),
        "AGENTS.md": N_("Its way of working"),
        "IDENTITY.md": N_("Identity"),
    }
)

FILES_ARE = Texts(
    {
        "SOUL.md": N_("Who it is: its character, its tone, what it holds dear."),
        "USER.md": N_("What it knows about you. It adds to this file as it learns."),
        "AGENTS.md": N_("What it does and how: your instructions, its rules, its memory."),
        "IDENTITY.md": N_("Its name and what it is. It may change this file itself."),
    }
)

AUTHORS = Texts(
    {"found": N_("Assistant"), "owner": N_("You"), "restored": N_("You, brought back"), "settings": N_("Configuration")}
)
"""Who a version of a file is from."""

NETWORK = Texts(
    {
        "good": N_("The network knows the bot."),
        "refused": N_("The network does not accept the bot's token any more. Replace the bot below."),
        "silent": N_("The network cannot be reached at the moment. Please try again in a minute."),
    }
)
"""What a channel's network says of the bot."""

GATEWAY = Texts(
    {
        "ready": N_("The assistant is there and answers."),
        "starting": N_("The assistant is still getting ready for it. Please try again in a minute."),
        "recovering": N_("The assistant is connecting again. Please try again in a minute."),
        "blocked": N_("The assistant cannot use it."),
        "waiting": N_("It waits for you: open the link above once."),
        "asleep": N_("The assistant does not run, so it does not answer."),
        "silent": N_("The assistant does not answer at the moment. Its overview says what is done about it."),
    }
)
"""What an assistant's gateway says of a channel."""

HAPPENED = (
    N_("Building the assistant."),
    N_("The assistant is ready."),
    N_("Deleted with all its data."),
    N_("Paused: a payment is missing."),
    N_("Paused: the balance is used up."),
    N_("Paused: it was used in an unusual way."),
    N_("Paused: stopped by its owner."),
    N_("Paused: stopped by the operator."),
    N_("One of its files was changed meanwhile and stays as it is."),
)
"""What an assistant's history says in the same words each time."""

LOG_LEVELS = Texts({"error": N_("Error"), "warn": N_("Warning"), "info": N_("News"), "debug": N_("Detail")})

LOG_FILTERS = Texts(
    {
        "": N_("Everything"),
        "error": N_("Errors"),
        "warn": N_("Warnings and errors"),
        "info": N_("News, warnings and errors"),
    }
)

LEDGER_KINDS = Texts(
    {
        "payment": N_("Payment"),
        "plan": N_("Plan"),
        "usage": N_("Usage"),
        "credit": N_("Credit"),
        "refund": N_("Refund"),
        "topup": N_("Top-up"),
        "plan_returned": N_("Plan returned"),
        "credit_expired": N_("Credit ended"),
        "included_credit": N_("Included credit"),
        "coupon": N_("Coupon"),
        "correction": N_("Correction"),
    }
)

SUBSCRIPTIONS: dict[str, Badge] = {
    "incomplete": Badge(N_("Waiting for payment"), "calm"),
    "trialing": Badge(N_("Free trial"), "live"),
    "active": Badge(N_("Active"), "live"),
    "past_due": Badge(N_("Payment failed"), "bad"),
    "unpaid": Badge(N_("Not paid"), "bad"),
    "canceled": Badge(N_("Ended"), "calm"),
}

PAUSED: dict[str, Badge] = {
    "payment": Badge(N_("Paused: not paid"), "bad"),
    "refund": Badge(N_("Paused: payment returned"), "bad"),
    "dispute": Badge(N_("Paused: payment disputed"), "bad"),
}
"""What a plan is called while its assistants are paused for it, by the cause."""

TROUBLE = Texts(
    {
        "payment": N_("A payment for this plan has failed. We need a payment method that works."),
        "refund": N_("The payment for this period was returned to you, so nothing pays for this plan at the moment."),
        "dispute": N_("A payment for this plan is disputed at your bank."),
        "ended": N_("This plan has ended."),
    }
)

TO_DO = Texts(
    {
        "refund": N_("To go on, write to us; we will find a way together."),
        "dispute": N_(
            "If that is a mistake, ask your bank to take the dispute back, and write to us so that we can help."
            " Once it is settled in our favour, everything goes on by itself. Until then the plan cannot be changed."
        ),
    }
)
"""What a customer can do about trouble that no payment mends."""

INVOICE_STATES = Texts(
    {
        "draft": N_("being prepared"),
        "open": N_("not paid"),
        "paid": N_("paid"),
        "void": N_("void"),
        "uncollectible": N_("given up"),
    }
)

SCOPES = Texts(
    {
        "read": N_("look"),
        "read write": N_("look and change"),
        "keys read write": N_("everything, keys too"),
        "admin read": N_("look, and the operator's side"),
        "admin read write": N_("everything, and the operator's side"),
    }
)
"""What an API key may do, by its scopes as they are kept."""

DISPUTES = Texts(
    {
        "open": N_("dispute open"),
        "won": N_("dispute won"),
        "lost": N_("dispute lost"),
        "inquiry": N_("bank asks"),
        "inquiry_closed": N_("bank asked"),
    }
)

POCKETS = Texts({"wallet": N_("Balance"), "included": N_("Included usage")})

PRICES = Texts({"month": N_("%(price)s a month"), "quarter": N_("%(price)s a quarter"), "year": N_("%(price)s a year")})


def per(micros: int, interval: str) -> str:
    """A price with what it is for: `$29 a month`; an interval we do not know is left out."""
    return PRICES.get(interval, "%(price)s") % {"price": price(micros)}


def subscription(row: Subscription, trouble: Dunning | None = None) -> Badge:
    """The subscription's state as a badge; one that is to end, or that its trouble has paused, says so."""
    if trouble is not None and trouble.state == DunningState.SUSPENDED and trouble.cause in PAUSED:
        return PAUSED[trouble.cause]
    if row.is_ending and row.state in ("active", "trialing"):
        return Badge(N_("Ends with its period"), "warn")
    return SUBSCRIPTIONS.get(row.state, Badge(row.state, "calm"))


def badge(instance: Instance) -> Badge:
    """The instance's state as a badge; one that is on its way out says so."""
    if instance.deletion_asked_at is not None and instance.state != State.DELETED:
        return Badge(N_("Being deleted"), "busy")
    return BADGES.get(instance.state, Badge(instance.state, "calm"))


def why(instance: Instance) -> list[str]:
    """A sentence for each reason the instance is paused."""
    if instance.state != State.SUSPENDED:
        return []
    return [REASONS.get(reason, str(reason)) for reason in reasons(instance)]


def ways_out(instance: Instance) -> list[tuple[str, str, str]]:
    """For each reason the instance is paused: a sentence, what the way out is called, and its address.

    Without an address the way is a letter to us; without a name the sentence says all.
    """
    if instance.state != State.SUSPENDED:
        return []
    ways = {
        Reason.PAYMENT: (_("See what to do"), "/billing"),
        Reason.BALANCE: (_("Top up"), "/topup"),
        Reason.OWNER: ("", ""),
    }
    return [(REASONS.get(one, str(one)), *ways.get(one, (_("Write to us"), ""))) for one in reasons(instance)]


def persona(name: str) -> tuple[str, str]:
    """Label and description; an operator's own persona is called by its folder's name."""
    if name not in PERSONAS:
        return name.replace("-", " ").capitalize(), ""
    label, text = PERSONAS[name]
    return _(label), _(text)


DONE = Texts(
    {
        "start": N_("Starting. It takes up to a minute."),
        "stop": N_("Stopping. Its last answer is finished first."),
        "restart": N_("Restarting. It takes up to a minute."),
        "delete": N_("Deleting the assistant and everything it kept."),
        "key-replacing": N_("A new pass is being made. It starts again with that; a paused one gets it at its start."),
        "saved": N_("Saved. The assistant reads the new settings now."),
        "goes-on": N_("It goes on. What it does by itself has a further allowance today."),
        "limit-saved": N_("Saved. This limit holds from now on; without an amount there is none."),
        "unchanged": N_("Nothing was changed."),
        "backup-making": N_("The backup is being made."),
        "backup-removed": N_("The backup is removed."),
        "restoring": N_("The backup is being brought back. It takes about a minute."),
        "upgrading": N_("The newer version is being put in place. It takes about a minute."),
        "file-saved": N_("Saved. The assistant reads it with your next message."),
        "file-restored": N_("Brought back. What was there before is in the history."),
        "key-saved": N_("The key works and is in use. It is kept encrypted and never shown again."),
        "skill-kept": N_("Kept. The assistant starts with it."),
        "skill-key-removed": N_("The key is removed. The assistant does without this skill."),
        "key-removed": N_("The key is removed. The assistant cannot answer until there is another."),
        "bot-kept": N_("The bot is known and kept."),
        "draft-key-kept": N_("The key works. It is kept encrypted and never shown again."),
        "connected": N_("The bot is known. Open the link below to make it yours."),
        "disconnected": N_("Disconnected. The bot can be used elsewhere now."),
        "listening": N_("We are waiting for you at the bot again. Open the link below."),
        "signed-out": N_("You are signed out."),
        "plan-changed": N_("The plan is changed."),
        "price-accepted": N_("The new price holds from now on."),
        "cancelled": N_("The plan ends with its period. You can take this back until then."),
        "resumed": N_("The plan goes on."),
        "auto-saved": N_("Saved. Your balance is filled by itself from now on."),
        "auto-off": N_("Automatic top-up is off."),
        "redeemed": N_("The credit is on your balance."),
        "credited": N_("Booked. The customer sees it in the statement."),
        "refund-asked": N_("Asked for. The books follow as soon as the payment provider has done it."),
        "coupon-made": N_("The coupon can be used now."),
        "coupon-disabled": N_("The coupon cannot be used any more."),
        "email-asked": N_("We have mailed a link to the new address. Open it there, and the address is yours."),
        "email-kept": N_("Your address stays as it is."),
        "email-changed": N_("The new address is in use."),
        "session-ended": N_("That browser is signed out."),
        "others-ended": N_("You are signed out everywhere but here."),
        "key-revoked": N_("The key is revoked. Whoever uses it is refused from now on."),
        "deletion-mailed": N_("We have mailed you a link. Nothing is deleted until it is opened."),
        "account-kept": N_("Nothing is deleted. The link is of no use any more."),
        "account-deleted": N_("Your account is deleted. We write once more when everything is gone."),
        "prepared-discarded": N_("Discarded. What was paid for begins anew."),
        "view-ended": N_("You see your own pages again."),
        "run-again": N_("It is tried again."),
        "alert-closed": N_("Done with."),
        "integration-connected": N_("Connected. Now choose which assistant may read it."),
        "integration-disconnected": N_("Disconnected. No assistant reads it any more, and the tokens are forgotten."),
        "integration-attached": N_("Your assistant can read it from your next message on."),
        "integration-detached": N_("Your assistant does not read it any more."),
    }
)
"""Sentences for `?done=…`, the only thing an address can make a page say."""
