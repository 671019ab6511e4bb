"""What goes with a prepaid balance: its level, each change told once, and the settings of the auto top-up.

The balance itself is the ledger's (account kind `wallet`); its floor is the operator's WALLET_MINIMUM.
"""

from __future__ import annotations

import base64
import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from clawhaven import ledger
from clawhaven.billing.checkouts import Kind
from clawhaven.billing.models import Checkout, Cover, Receipt, Subscription, Wallet
from clawhaven.billing.subscriptions import ENTITLED

KIND = "wallet"
"""The kind of the ledger's account."""

CREDIT_IN_FLIGHT = timedelta(minutes=1)
"""A credit booked so long before a refusal may not have been visible to it yet; it counts as the later one."""


DISPUTE = "dispute:"
"""What is set aside for a receipt has this and its id as its key in the ledger."""

DISPUTE_LIFE = timedelta(days=366)
"""Banks decide long before; what is looked at is renewed."""


class Level(StrEnum):
    """How much is left above the line."""

    OK = "ok"
    LOW = "low"
    DEPLETED = "depleted"


class Auto(StrEnum):
    """Where the auto top-up is: waiting for a crossing, at work for this one, or given up for this one."""

    ARMED = "armed"
    FIRED = "fired"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Standing:
    """What a level is judged by, in micro-dollars. `is_refused`: a call was refused since the last credit.

    `held_micros` is all that is held; `disputed_micros` the part of it that is set aside for open disputes.
    """

    balance_micros: int
    held_micros: int
    floor_micros: int
    is_refused: bool = False
    disputed_micros: int = 0

    @property
    def own_micros(self) -> int:
        """The balance without what is disputed."""
        return self.balance_micros - self.disputed_micros


def level_of(standing: Standing, margin_micros: int) -> Level:
    """The level, given the operator's LOW_BALANCE_MARGIN. Pure.

    A refusal counts only while nothing is held: what is held may come back.
    """
    left = standing.own_micros - standing.floor_micros
    if left <= 0 or (standing.is_refused and standing.held_micros == standing.disputed_micros):
        return Level.DEPLETED
    return Level.LOW if left < margin_micros else Level.OK


def find(db: Session, account_id: str) -> Wallet | None:
    """The row as it is now; None while nothing was ever noted for this account."""
    return db.get(Wallet, account_id, populate_existing=True)


def ensure(db: Session, account_id: str, now: datetime) -> Wallet:
    """The row, made when missing, also when two do it at once."""
    found = find(db, account_id)
    if found is not None:
        return found
    insert = sqlite.insert if db.get_bind().dialect.name == "sqlite" else postgresql.insert
    values = {"account_id": account_id, "level": Level.OK, "level_at": now, "auto_state": Auto.ARMED}
    db.execute(insert(Wallet).values(**values).on_conflict_do_nothing(index_elements=["account_id"]))
    return db.get_one(Wallet, account_id, populate_existing=True)


def standing(db: Session, account_id: str) -> Standing | None:
    """How the account's wallet stands now; None without one."""
    found = ledger.balances(db, KIND, account_id).get(account_id)
    if found is None:
        return None
    row = find(db, account_id)
    is_refused = row is not None and row.refused_at is not None and not has_credit_since(db, account_id, row.refused_at)
    disputed = set_aside(db, account_id).get(account_id, 0)
    return Standing(found.balance_micros, found.held_micros, found.floor_micros or 0, is_refused, disputed)


def has_credit_since(db: Session, account_id: str, refused_at: datetime) -> bool:
    """True when more was credited than taken, usage aside, since a refusal."""
    wallet_id = ledger.account_of(db, KIND, account_id)
    since = refused_at - CREDIT_IN_FLIGHT
    return wallet_id is not None and ledger.sum_moved(db, wallet_id, since=since, except_kind="usage") > 0


def is_marked(db: Session, account_id: str) -> bool:
    """True when a refusal is noted already: there is nothing to write."""
    return db.scalar(select(Wallet.refused_at).where(Wallet.account_id == account_id)) is not None


def mark_refused(db: Session, account_id: str, now: datetime) -> bool:
    """Note that a call was refused for want of credit; the first one counts. False: noted before, or calls under way
    hold money that may come back."""
    found = ledger.balances(db, KIND, account_id).get(account_id)
    if found is None or found.held_micros > set_aside(db, account_id).get(account_id, 0):
        return False
    ensure(db, account_id, now)
    return _set(db, account_id, Wallet.refused_at.is_(None), refused_at=now)


def forget_refusal(db: Session, account_id: str, refused_at: datetime) -> bool:
    """Credit came since then."""
    return _set(db, account_id, Wallet.refused_at == refused_at, refused_at=None)


def disputed_topups(db: Session, account_id: str | None = None) -> list[Receipt]:
    """Payments for top-ups whose dispute is open; of one account, or of all."""
    query = (
        select(Receipt)
        .join(Checkout, Checkout.id == Receipt.checkout_id)
        .where(Receipt.dispute == "open", Checkout.kind != Kind.SUBSCRIPTION)
    )
    if account_id is not None:
        query = query.where(Receipt.account_id == account_id)
    return list(db.scalars(query.order_by(Receipt.created_at, Receipt.id)))


def set_aside(db: Session, account_id: str | None = None) -> dict[str, int]:
    """Account -> what is set aside for its open disputes, in micro-dollars."""
    found: defaultdict[str, int] = defaultdict(int)
    for one in ledger.held_under(db, DISPUTE, account_id):
        found[one.owner_id] += one.amount_micros
    return found


def keep_aside(db: Session, account_id: str, wallet_id: str, amounts: Mapping[str, int], now: datetime) -> None:
    """Set aside what is disputed (receipt -> micro-dollars) as far as it is there and not in use; all else comes free.

    What comes free is as good as a credit: a refusal noted before is forgotten.
    """
    before = ledger.held_under(db, DISPUTE, account_id)
    known = {one.key.split(":")[1] for one in before}
    for receipt_id in sorted(known | amounts.keys(), key=lambda one: (one in amounts, one)):
        until = now + DISPUTE_LIFE
        ledger.keep_held(db, f"{DISPUTE}{receipt_id}", wallet_id, amounts.get(receipt_id, 0), until, now=now)
    if set_aside(db, account_id).get(account_id, 0) < sum(one.amount_micros for one in before):
        _set(db, account_id, Wallet.refused_at.is_not(None), refused_at=None)


def change_level(db: Session, row: Wallet, level: Level, now: datetime) -> bool:
    """Begin a new episode. False when somebody else began one since `row` was read."""
    is_same = Wallet.episode == row.episode
    return _set(db, row.account_id, is_same, level=level, level_at=now, episode=row.episode + 1)


def save_auto(db: Session, account_id: str, *, is_auto: bool, threshold_micros: int, amount_micros: int) -> None:
    """Keep the owner's settings. The auto top-up is armed again, unless one is at work."""
    values = {"is_auto": is_auto, "auto_threshold_micros": threshold_micros, "auto_amount_micros": amount_micros}
    db.execute(update(Wallet).where(Wallet.account_id == account_id).values(**values, auto_error=""))
    _set(db, account_id, Wallet.auto_state == Auto.FAILED, auto_state=Auto.ARMED)


def fire(db: Session, account_id: str) -> int | None:
    """Begin the auto top-up of this crossing: its number, or None when it is not armed. One of many callers gets it."""
    return db.scalar(
        update(Wallet)
        .where(Wallet.account_id == account_id, Wallet.is_auto, Wallet.auto_state == Auto.ARMED)
        .values(auto_state=Auto.FIRED, auto_count=Wallet.auto_count + 1, auto_error="")
        .returning(Wallet.auto_count)
        .execution_options(synchronize_session=False)
    )


def rearm(db: Session, account_id: str) -> bool:
    """The balance is above the threshold: the next crossing fires again. False: it was armed."""
    return _set(db, account_id, Wallet.auto_state != Auto.ARMED, auto_state=Auto.ARMED, auto_error="")


def fail(db: Session, account_id: str, number: int, why: str) -> bool:
    """Give up the auto top-up of this crossing. False: it was given up, or is over, already."""
    is_this = (Wallet.auto_state == Auto.FIRED) & (Wallet.auto_count == number)
    return _set(db, account_id, is_this, auto_state=Auto.FAILED, auto_error=why[:500])


def charge_id(account_id: str, number: int) -> str:
    """The id of the checkout of a crossing: the same one, whoever asks."""
    digest = hashlib.sha256(f"auto-topup:{account_id}:{number}".encode()).digest()
    return f"cho_{base64.b32encode(digest[:15]).decode().lower()}"


def metered_accounts(db: Session, plans: Collection[str], account_id: str | None = None) -> set[str]:
    """Accounts with a running subscription of one of these plans: only they are judged by their level."""
    query = select(Subscription.account_id).where(Subscription.plan.in_(plans), Subscription.state.in_(ENTITLED))
    if account_id is not None:
        query = query.where(Subscription.account_id == account_id)
    return set(db.scalars(query))


def metered_instances(db: Session, plans: Collection[str], account_id: str) -> set[str]:
    """The assistants that such subscriptions of an account pay for."""
    return set(
        db.scalars(
            select(Cover.instance_id)
            .join(Subscription, Subscription.id == Cover.subscription_id)
            .where(
                Subscription.account_id == account_id,
                Subscription.plan.in_(plans),
                Subscription.state.in_(ENTITLED),
            )
        )
    )


def rows(db: Session) -> dict[str, Wallet]:
    """Every row by its account, for the sweep."""
    return {row.account_id: row for row in db.scalars(select(Wallet))}


def _set(db: Session, account_id: str, condition: ColumnElement[bool], **values: object) -> bool:
    changed = db.execute(
        update(Wallet)
        .where(Wallet.account_id == account_id, condition)
        .values(**values)
        .returning(Wallet.account_id)
        .execution_options(synchronize_session=False)
    )
    return changed.first() is not None
