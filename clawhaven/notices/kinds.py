"""The letters we write. Plain text; every one says what happened and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from babel import dates

from clawhaven.core.languages import SOURCE, Phrase, current
from clawhaven.core.languages import Phrase as _

Said = str | Phrase


@dataclass(frozen=True, slots=True)
class Letter:
    """A message, put into words in the language that is spoken when it is read (core/languages.py)."""

    kind: str
    title: Said
    body: Said

    @property
    def subject(self) -> str:
        """What it is about, in one line."""
        return str(self.title)

    @property
    def text(self) -> str:
        """All it says."""
        return str(self.body)


class Paragraphs(Phrase):
    """Texts with an empty line between them."""

    def __init__(self, parts: Sequence[Said]) -> None:
        super().__init__("")
        self._parts = tuple(parts)

    def __str__(self) -> str:
        return "\n\n".join(str(part) for part in self._parts) + "\n"


class Moment(Phrase):
    """A time in UTC: `5 December 2026, 14:05 UTC`, or with `has_time` False only its day."""

    def __init__(self, at: datetime, *, has_time: bool = True) -> None:
        super().__init__("")
        self._at, self._has_time = at.astimezone(UTC), has_time

    def __str__(self) -> str:
        if current() == SOURCE:
            day = f"{self._at.day} {self._at:%B %Y}"
        else:
            day = dates.format_date(self._at, "long", locale=current())
        return f"{day}, {self._at:%H:%M} UTC" if self._has_time else day


def signed(kind: str, subject: Said, brand: str, *paragraphs: Said) -> Letter:
    """A letter of these paragraphs, with the brand at its end."""
    return Letter(kind, subject, Paragraphs((*paragraphs, brand)))


def moment(at: datetime) -> Moment:
    """`5 December 2026, 14:05 UTC`: how a letter names a time."""
    return Moment(at)


def day(at: datetime) -> Moment:
    """`5 December 2026`: how a letter names a day."""
    return Moment(at, has_time=False)


def sign_in(brand: str, url: str) -> Letter:
    """The sign-in link."""
    return signed(
        "sign_in",
        _("Sign in to %(brand)s", brand=brand),
        brand,
        _("Open this link to sign in. It works once, for 15 minutes:"),
        url,
        _("If you did not ask for it, you can ignore this mail."),
    )


def welcome(brand: str, name: str, url: str) -> Letter:
    """After sign-up, before payment."""
    return signed(
        "welcome",
        _("Welcome to %(brand)s", brand=brand),
        brand,
        _("Your assistant %(name)s is prepared. Finish the payment to bring it to life:", name=name),
        url,
    )


def receipt(brand: str, amount: str, plan: str) -> Letter:
    """A payment came in, for this plan; empty: for the balance."""
    subject = _("Your payment to %(brand)s", brand=brand)
    if not plan:
        return signed(
            "receipt", subject, brand, _("We received %(amount)s for your balance. Thank you.", amount=amount)
        )
    return signed(
        "receipt",
        subject,
        brand,
        _("We received %(amount)s for the plan %(plan)s. Thank you.", amount=amount, plan=plan),
    )


def ready(brand: str, name: str, url: str, bot_url: str | None) -> Letter:
    """The assistant is live."""
    telegram = (_("Make the Telegram bot yours with this one-time link:"), bot_url) if bot_url else ()
    return signed(
        "ready",
        _("%(name)s is ready", name=name),
        brand,
        _("%(name)s is live. Talk to it here:", name=name),
        url,
        *telegram,
    )


def failed(brand: str, name: str, reason: str, url: str) -> Letter:
    """Provisioning failed and was undone."""
    return signed(
        "instance_error",
        _("%(name)s could not be started", name=name),
        brand,
        Phrase(reason),
        _("Nothing is running and your payment is safe. Try again here:"),
        url,
    )


def suspended(brand: str, name: str, reason: str, url: str) -> Letter:
    """The assistant was suspended, which customers read as "paused"; `reason` as in "a payment is missing"."""
    because = Phrase(reason)
    return signed(
        "suspended",
        _("%(name)s is paused", name=name),
        brand,
        _("%(name)s is paused: %(because)s. Its data is kept. See what to do here:", name=name, because=because),
        url,
    )


def resumed(brand: str, name: str, url: str) -> Letter:
    """The assistant runs again."""
    return signed("resumed", _("%(name)s is back", name=name), brand, _("%(name)s runs again:", name=name), url)


def payment_failed(brand: str, suspend_at: datetime, delete_at: datetime, url: str) -> Letter:
    """A payment failed; the time of grace begins."""
    return signed(
        "payment_failed",
        _("Your payment to %(brand)s did not work", brand=brand),
        brand,
        _("We could not collect the payment for your plan. Your assistants go on for now."),
        _(
            "If nothing is paid, they are paused on %(suspend_at)s, and deleted with all their data on %(delete_at)s.",
            suspend_at=moment(suspend_at),
            delete_at=moment(delete_at),
        ),
        _("Pay here, or change your payment method:"),
        url,
    )


def suspension_near(brand: str, days: int, suspend_at: datetime, delete_at: datetime, url: str) -> Letter:
    """The time of grace is nearly over."""
    return signed(
        "suspension_near",
        _("Your assistants are paused in %(days)s", days=_days(days)),
        brand,
        _(
            "The payment for your plan is still missing. Without it, your assistants stop on %(suspend_at)s."
            " Their data is kept until %(delete_at)s, and is deleted then.",
            suspend_at=moment(suspend_at),
            delete_at=moment(delete_at),
        ),
        _("Pay here and nothing changes:"),
        url,
    )


def suspended_for_payment(brand: str, cause: str, delete_at: datetime, url: str) -> Letter:
    """Suspended by trouble with paying; `cause` is payment, refund, dispute or ended."""
    happened, way = _SUSPENDED[cause]
    return signed(
        "suspended",
        _("Your assistants at %(brand)s are paused", brand=brand),
        brand,
        _(
            "%(happened)s Your assistants have stopped. Their data is kept until %(delete_at)s, and is deleted then.",
            happened=happened,
            delete_at=moment(delete_at),
        ),
        way,
        url,
    )


def deletion_near(brand: str, cause: str, days: int, delete_at: datetime, url: str) -> Letter:
    """The announced deletion is near."""
    way = _SUSPENDED[cause][1]
    return signed(
        "deletion_near",
        _("Your assistants are deleted in %(days)s", days=_days(days)),
        brand,
        _(
            "Your assistants are paused. On %(delete_at)s they are deleted with all their data, and nobody"
            " can bring them back after that.",
            delete_at=moment(delete_at),
        ),
        way,
        url,
    )


def deleted(brand: str, names: str, url: str) -> Letter:
    """Deleted on the announced day."""
    return signed(
        "deleted",
        _("Your assistants at %(brand)s are deleted", brand=brand),
        brand,
        _("As announced, %(names)s and all data was deleted. Nothing is charged any more.", names=names),
        _("You can begin anew at any time:"),
        url,
    )


def recovered(brand: str, url: str) -> Letter:
    """The trouble is over."""
    return signed(
        "recovered",
        _("Your plan at %(brand)s is in order again", brand=brand),
        brand,
        _(
            "What was missing has been paid. Your plan goes on, and nothing will be paused or deleted. There"
            " is nothing for you to do."
        ),
        _("Your plan:"),
        url,
    )


def cancel_scheduled(brand: str, end_at: datetime, delete_at: datetime, url: str) -> Letter:
    """The customer ends their plan with its period."""
    return signed(
        "cancel_scheduled",
        _("Your plan at %(brand)s ends on %(end_at)s", brand=brand, end_at=day(end_at)),
        brand,
        _(
            "Your plan is cancelled and ends on %(end_at)s. Until then everything runs as before. Then your"
            " assistants stop, and on %(delete_at)s they are deleted with all their data.",
            end_at=moment(end_at),
            delete_at=moment(delete_at),
        ),
        _("You can take this back until the plan ends:"),
        url,
    )


def cancel_undone(brand: str, renew_at: datetime, url: str) -> Letter:
    """The cancellation was taken back."""
    return signed(
        "cancel_undone",
        _("Your plan at %(brand)s goes on", brand=brand),
        brand,
        _("The cancellation was taken back. Your plan goes on and renews on %(renew_at)s.", renew_at=moment(renew_at)),
        _("Your plan:"),
        url,
    )


def trial_ending(brand: str, end_at: datetime, amount: str, url: str) -> Letter:
    """The trial becomes a payment."""
    return signed(
        "trial_ending",
        _("Your trial at %(brand)s ends on %(end_at)s", brand=brand, end_at=day(end_at)),
        brand,
        _(
            "Your trial ends on %(end_at)s. Then %(amount)s is charged for the first period, less what a"
            " coupon takes off, and your assistants go on.",
            end_at=moment(end_at),
            amount=amount,
        ),
        _("To go on, do nothing. To stop, cancel before that time:"),
        url,
    )


def refund_sent(brand: str, amount: str, reason: str, url: str) -> Letter:
    """The operator gives money back."""
    return signed(
        "refund_sent",
        _("%(brand)s returns %(amount)s to you", brand=brand, amount=amount),
        brand,
        _("We have returned %(amount)s of your payment: %(reason)s", amount=amount, reason=reason),
        _("It goes to the payment method you paid with. Your bank shows it within about ten days."),
        _("Your payments:"),
        url,
    )


def bots_cut_off(brand: str, bots: Sequence[str], url: str) -> Letter:
    """The address was proven for the first time; bots that somebody connected before that are gone."""
    return signed(
        "bots_cut_off",
        _("Connect your bot again"),
        brand,
        _(
            "You have signed in by mail for the first time. Before that, anybody could have typed your"
            " address, so we have disconnected what was connected until then:"
        ),
        "\n".join(bots),
        _(
            "If that was you, connect it again, it takes a minute. If it was not, there is nothing for you"
            " to do: whoever it was cannot reach your account."
        ),
        url,
    )


def refund_returned(brand: str, amount: str, url: str, *, is_plan: bool, is_dispute: bool) -> Letter:
    """What was given back did not reach the customer, or a bank decided anew: it counts as paid again."""
    why = _("A dispute was decided anew.") if is_dispute else _("Your bank did not take what we had returned to you.")
    where = _("It pays for your plan again.") if is_plan else _("It is on your balance again.")
    return signed(
        "refund_returned",
        _("%(amount)s counts as paid to %(brand)s again", amount=amount, brand=brand),
        brand,
        why,
        _("So %(amount)s came back to us.", amount=amount),
        where,
        _("If you still want it back, write to us: we will find another way. Your payments:"),
        url,
    )


_SUSPENDED = {
    "payment": (
        _("The payment for your plan is still missing."),
        _("Pay here, and they start again by themselves:"),
    ),
    "refund": (
        _("The payment for this period of your plan was returned."),
        _("If you want to go on, see your plan here, or write to us:"),
    ),
    "dispute": (
        _("The payment for your plan is disputed at your bank."),
        _("If this is a mistake, take the dispute back at your bank and write to us. See your plan here:"),
    ),
    "ended": (
        _("Your plan has ended."),
        _("Choose a plan again here, and they start again with everything they know:"),
    ),
}


def _days(days: int) -> Phrase:
    return _("one day") if days == 1 else _("%(days)s days", days=days)


def place_free(brand: str, url: str) -> Letter:
    """A place was freed for somebody on the waitlist."""
    return signed(
        "place_free", _("A place at %(brand)s is free", brand=brand), brand, _("It is your turn. Sign up here:"), url
    )


def alert(subject: str, text: str) -> Letter:
    """For the operator."""
    return Letter("alert", subject, text)
