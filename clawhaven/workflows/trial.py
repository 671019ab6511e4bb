"""The trial chat: a few words with the model before there is an account, paid by the operator, never without a cap.

Its calls go through the proxy under a grant of their own, so they are counted and priced like everybody's. The grant's
ledger account has a floor that moves once a day: what is left above it is what remains of TRIAL_BUDGET_PER_DAY, and
the proxy itself refuses what goes beyond.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from clawhaven import ledger
from clawhaven.context import Context
from clawhaven.core import ratelimit
from clawhaven.core.carrying import Seats
from clawhaven.core.db import lock
from clawhaven.core.errors import Invalid, RateLimited, Unavailable
from clawhaven.core.ids import new_id
from clawhaven.core.secrets import SealBroken, hash_token
from clawhaven.metering import grants, usage
from clawhaven.metering.grants import GrantTerms
from clawhaven.metering.models import PlanMode
from clawhaven.metering.prices import Price, worst_case_micros
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.model import Exchange, Question
from clawhaven.ports.upstream import Dialect
from clawhaven.workflows import access, checkout

ACCOUNT: Final = "trial"
"""Grant and ledger account of the trial chat; no customer's id looks like this."""

SANDBOX_MODEL = "sandbox-1"
MESSAGES = 5
PER_MINUTE = 10
PER_ADDRESS = 20
"""Messages a day of one address: whoever throws the cookie away begins anew so many times only."""

DAY_SECONDS = 86_400
COOKIE = "clawhaven_trial"
COOKIE_SECONDS = 30 * DAY_SECONDS
VISITOR_PURPOSE = "trial.visitor"
TALK_PURPOSE = "trial.talk"
MAX_MESSAGE = 500
MAX_ANSWER_TOKENS = 350
OVER = "trial_over"
CROWDED = "trial_crowded"
SEATS: Final = Seats(most_of_one=1, most=8)
"""Answers under way, by address; customers' chats have places of their own."""

INSTRUCTIONS = """\
You are the trial assistant on the public site of %(brand)s, which runs personal AI assistants (OpenClaw) for people. \
Answer in at most 120 words, in the language of the person, as plain text without Markdown. Be warm, concrete and \
honest. You can talk, but here you have no tools, no memory and no access to anything. The person's own assistant, \
after a sign-up, also remembers and can be reached in a messenger. Do not invent prices or features: \
point to the pages Pricing and Help of this site."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whoever tries it: their id in our counting, and how many messages they have used."""

    id: str
    used: int

    @property
    def left(self) -> int:
        """Messages that are left."""
        return max(0, MESSAGES - self.used)


def find_model(ctx: Context) -> Price | None:
    """What strangers talk to: TRIAL_MODEL, else the sandbox where there is one. None: the trial is closed."""
    name = ctx.settings.trial_model or SANDBOX_MODEL
    price = ctx.prices.find(name, ctx.clock.now())
    if price is None or not checkout.is_usable(ctx, price.upstream) or not _budget(ctx):
        return None
    return price


def require_model(ctx: Context) -> Price:
    """The same. Raises Unavailable where the trial is closed."""
    price = find_model(ctx)
    if price is None:
        raise Unavailable("The trial chat is closed at the moment. Plans and prices are on this site.")
    return price


def read_visitor(ctx: Context, cookie: str) -> Visitor:
    """The visitor of a cookie of ours; somebody new for every other text."""
    try:
        visitor_id, used = json.loads(ctx.keys.open(cookie, VISITOR_PURPOSE))
    except SealBroken:
        return Visitor(new_id("vis"), 0)
    return Visitor(str(visitor_id), int(used))


def write_visitor(ctx: Context, visitor: Visitor) -> str:
    """The cookie of a visitor."""
    return ctx.keys.seal(json.dumps([visitor.id, visitor.used]), VISITOR_PURPOSE)


def read_talk(ctx: Context, sealed: str) -> list[Exchange]:
    """The conversation that a page or a program carries for us; a changed or foreign one is an empty one."""
    try:
        return [
            Exchange(str(said), str(answered)) for said, answered in json.loads(ctx.keys.open(sealed, TALK_PURPOSE))
        ]
    except SealBroken:
        return []


def write_talk(ctx: Context, talk: Sequence[Exchange]) -> str:
    """The conversation, sealed: nobody can put words into the model's mouth."""
    return ctx.keys.seal(json.dumps([[one.said, one.answered] for one in talk[-MESSAGES:]]), TALK_PURPOSE)


def admit(ctx: Context, visitor: Visitor, address: str, message: str) -> tuple[Visitor, str]:
    """Count one message; returns the visitor afterwards and the message as it is sent.

    Counted in the cookie and in the database, so that neither an old cookie nor none at all brings new ones for long.
    Raises Invalid naming `message`, Unavailable (closed), RateLimited: too fast, `trial_over`, or `trial_crowded`
    (see `crowded`).
    """
    text = message.strip()
    if not text or len(text) > MAX_MESSAGE:
        raise Invalid(f"A message has 1 to {MAX_MESSAGE} characters.", field="message", reason="wrong length")
    require_model(ctx)
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        ratelimit.hit(db, f"trial-minute:{address}", PER_MINUTE, 60, now)
    try:
        if not visitor.left:
            raise RateLimited("No message is left.")
        with ctx.db.tx() as db:
            ratelimit.hit(db, f"trial:{visitor.id}", MESSAGES, DAY_SECONDS, now)
            _hit_address(db, address, now)
    except RateLimited as refusal:
        if refusal.error_code == CROWDED:
            raise
        raise RateLimited(
            "That was all of the free messages. Sign up, and your own assistant goes on from here.",
            code=OVER,
            retry_after=_until_midnight(now),
        ) from None
    return Visitor(visitor.id, visitor.used + 1), text


def is_crowded(ctx: Context, address: str) -> bool:
    """True when nobody at this address has a message left today."""
    with ctx.db.read() as db:
        return ratelimit.is_used_up(db, _day_key(address), PER_ADDRESS, DAY_SECONDS, ctx.clock.now())


def crowded(now: datetime) -> RateLimited:
    """The refusal of an address whose messages are used up: by others too, whom the visitor need not know."""
    return RateLimited(
        "All of today's free messages from your network are used up. Come back tomorrow, or sign up now.",
        code=CROWDED,
        retry_after=_until_midnight(now),
    )


def answer(ctx: Context, message: str, before: Sequence[Exchange]) -> Iterator[str]:
    """The model's answer, piece by piece. Raises Unavailable at its first piece, or where it breaks off."""
    price = require_model(ctx)
    question = _question(ctx, price, message, before)
    with ctx.db.tx() as db:
        left = prepare(db, ctx, price)
    size = sum(len(text.encode()) for one in before for text in (one.said, one.answered))
    tokens = 3_000 + (size + len(message.encode()) + len(question.instructions)) // 2
    if left < worst_case_micros(price, tokens, MAX_ANSWER_TOKENS, 100, may_cache_long=False):
        raise Unavailable(
            "The trial chat has a budget for each day, and today's is used up. Please come back tomorrow."
        )
    try:
        yield from ctx.model.say(_key(ctx), question)
    except ProviderError:
        raise Unavailable("The model does not answer at the moment. Please try again in a minute.") from None


def prepare(db: Session, ctx: Context, price: Price) -> int:
    """Bring grant and floor to what the settings say; returns what is left of today's budget, in micro-dollars."""
    now = ctx.clock.now()
    lock(db, "trial")
    account_id = ledger.open_account(db, access.INCLUDED, ACCOUNT, 0, now=now)
    terms = GrantTerms(
        instance_id=ACCOUNT,
        account_id=ACCOUNT,
        key_hash=hash_token(_key(ctx)),
        plan_mode=PlanMode.INCLUDED,
        ledger_account_id=account_id,
        is_active=True,
        models=[price.model],
        markup_percent=100,
    )
    found = grants.grant_of(db, ACCOUNT)
    if found is None or (found.key_hash, found.models) != (terms.key_hash, [price.model]):
        grants.put_grant(db, terms, now=now)
    # The balance before the usage: a call that is settled between the two lowers what is left, never raises it.
    balance = ledger.balance(db, account_id)
    floor = balance.balance_micros + _used_today(db, now) - _budget(ctx)
    if floor != balance.floor_micros:
        ledger.set_floor(db, account_id, floor)
    return balance.balance_micros - balance.held_micros - floor


def _hit_address(db: Session, address: str, now: datetime) -> None:
    try:
        ratelimit.hit(db, _day_key(address), PER_ADDRESS, DAY_SECONDS, now)
    except RateLimited:
        raise crowded(now) from None


def _day_key(address: str) -> str:
    return f"trial-day:{address}"


def _until_midnight(now: datetime) -> int:
    return DAY_SECONDS - int(now.timestamp()) % DAY_SECONDS


def _used_today(db: Session, now: datetime) -> int:
    begin = now.replace(hour=0, minute=0, second=0, microsecond=0)
    lines = usage.usage_by(db, ACCOUNT, (), begin, begin + timedelta(days=1))
    return lines[0].sum.price_micros if lines else 0


def _question(ctx: Context, price: Price, message: str, before: Sequence[Exchange]) -> Question:
    has_messages = Dialect.ANTHROPIC_MESSAGES in ctx.upstreams[price.upstream].dialects()
    return Question(
        model=price.model,
        dialect=Dialect.ANTHROPIC_MESSAGES if has_messages else Dialect.OPENAI_CHAT,
        instructions=INSTRUCTIONS % {"brand": ctx.settings.brand_name},
        before=before,
        message=message,
        most_tokens=MAX_ANSWER_TOKENS,
    )


def _key(ctx: Context) -> str:
    """The grant's secret: the same in every process of this installation, and kept nowhere."""
    return hmac.new(ctx.settings.keys().encode(), b"clawhaven trial chat", "sha256").hexdigest()


def _budget(ctx: Context) -> int:
    return ctx.settings.micros("trial_budget_per_day")
