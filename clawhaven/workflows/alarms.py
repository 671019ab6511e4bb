"""What the operator is told of a payment vendor that does not do its part, at most once a day."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from weakref import WeakKeyDictionary

from clawhaven.billing.models import Checkout
from clawhaven.context import Context
from clawhaven.core import ratelimit
from clawhaven.core.db import Database
from clawhaven.core.errors import RateLimited
from clawhaven.core.logs import get_logger
from clawhaven.notices import kinds
from clawhaven.ports.errors import ProviderError
from clawhaven.workflows import letters

log = get_logger("clawhaven.alarms")

MISSED_AN_HOUR = 3
"""So many events that were fetched and never sent are noise; from the next one on the operator is told."""

SILENCE = timedelta(hours=6)
"""So long after an event that a vendor did not send, anything else of it is waited for: vendors repeat in minutes."""

JUST_NOW = timedelta(minutes=10)
"""Two rounds of looking: what is found now and is older counts as lost then, so that SILENCE is always waited for."""

HEARD = timedelta(minutes=1)
"""That a vendor sends is noted so often at most by one process."""

_heard: WeakKeyDictionary[Database, dict[str, datetime]] = WeakKeyDictionary()
"""When this process last noted it of each vendor."""


def note_heard(ctx: Context, provider: str) -> None:
    """An event of this vendor reached our webhook, new or not. No transaction may be open."""
    now, noted = ctx.clock.now(), _heard.setdefault(ctx.db, {})
    if provider in noted and noted[provider] <= now < noted[provider] + HEARD:
        return
    with ctx.db.tx() as db:
        ratelimit.note(db, f"webhook-heard:{provider}", now)
    noted[provider] = now


def note_lost(ctx: Context, provider: str, created_at: Collection[datetime]) -> None:
    """Events of these times were fetched from the vendor's list that should have been sent to our webhook. When nothing
    of it is heard after one of them, that is told (`watch_silence`). No transaction may be open."""
    if not created_at:
        return
    note_missed(ctx, provider, len(created_at))
    earliest = ctx.clock.now() - JUST_NOW
    with ctx.db.tx() as db:
        for at in sorted({max(at, earliest) for at in created_at}):
            ratelimit.note(db, f"webhook-lost:{provider}", at)


def watch_silence(ctx: Context, provider: str) -> None:
    """Tell, once a day, of a vendor of which nothing was heard for SILENCE after an event that it did not send: where
    payments are rare, there are never a few within an hour. No transaction may be open."""
    now = ctx.clock.now()
    with ctx.db.read() as db:
        heard = ratelimit.last_noted(db, f"webhook-heard:{provider}")
        lost = ratelimit.first_noted(db, f"webhook-lost:{provider}", heard - HEARD if heard else None)
    if lost is None or now < lost + SILENCE:
        return
    text = (
        f"An event of {provider} of {lost:%Y-%m-%d %H:%M} (UTC) did not reach this installation and was fetched from"
        f" its lists. In the {SILENCE // timedelta(hours=1)} hours since then nothing else came from it either."
    )
    _tell_missed(ctx, provider, text, lost)


def note_missed(ctx: Context, provider: str, count: int) -> None:
    """So many events of this vendor were fetched from its list that should have been sent to our webhook. More than a
    few within an hour are told, once a day. No transaction may be open."""
    now = ctx.clock.now()
    try:
        for _ in range(count):
            with ctx.db.tx() as db:
                ratelimit.hit(db, f"webhook-missed:{provider}", MISSED_AN_HOUR, 3600, now)
    except RateLimited:
        text = (
            f"More than {MISSED_AN_HOUR} events of {provider} did not reach this installation within an hour and were"
            " fetched from its lists."
        )
        _tell_missed(ctx, provider, text, now)


def _tell_missed(ctx: Context, provider: str, what: str, day: datetime) -> None:
    """The letter about webhooks that do not arrive, one for each day."""
    text = (
        f"{what} What is fetched is applied, some minutes late. Look at the vendor's webhook:\n\n"
        f"- It is switched on there, with every event, and sends to {ctx.settings.base_url}/api/webhooks/{provider}\n"
        "- What the vendor says of its last deliveries to it: each is answered with 200.\n"
        "- Nothing on the way (a firewall, bot protection, a proxy) keeps it off that address.\n"
    )
    letter = kinds.alert(f"Webhooks of {provider} do not arrive", text)
    with ctx.db.tx() as db:
        letters.post_to(db, ctx, f"webhook-missed:{provider}:{day:%Y-%m-%d}", letter, ctx.settings.support_address)


def note_no_page(ctx: Context, checkout: Checkout, error: ProviderError) -> None:
    """A vendor did not make the page of a checkout. That it refuses for good, so that nobody can pay, is told: once a
    day for each code. No transaction may be open."""
    if not error.permanent:
        return
    provider = checkout.provider
    log.error("a payment page is refused", provider=provider, code=error.code, checkout=checkout.id)
    text = (
        f"{provider} refuses to make a payment page, and will refuse it again: {error.message} ({error.code})\n\n"
        f"The first checkout of today that met it: {checkout.id}, {checkout.plan or 'a top-up'}. Who wants to buy the"
        " same sees that the page cannot be reached, and pays nothing. Run `clawhaven doctor`, and look at the product"
        f" at {provider}.\n\nAccount: {ctx.settings.base_url}/admin/accounts/{checkout.account_id}\n"
    )
    letter = kinds.alert(f"{provider} makes no payment page: {error.code}", text)
    key = f"no-page:{provider}:{error.code}:{ctx.clock.now():%Y-%m-%d}"
    with ctx.db.tx() as db:
        letters.post_to(db, ctx, key, letter, ctx.settings.support_address)
