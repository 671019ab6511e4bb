"""Customers' accounts at other vendors: connected with their consent, attached to assistants, revoked at the vendor."""

from __future__ import annotations

import contextlib
from datetime import timedelta

from sqlalchemy.orm import Session

from clawhaven.accounts import signup
from clawhaven.context import Context
from clawhaven.core import audit, ratelimit
from clawhaven.core.errors import Conflict, IllegalMove, Invalid, NotFound, RateLimited, Unauthorized, Unavailable
from clawhaven.core.logs import get_logger
from clawhaven.core.secrets import SealBroken
from clawhaven.instances.models import Instance
from clawhaven.instances.states import State
from clawhaven.integrations import attachments, attempts, connected
from clawhaven.integrations.models import Integration as Connected
from clawhaven.notices import kinds
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.integration import Consent, Integration
from clawhaven.workflows import access, engine, letters, lifecycle
from clawhaven.workflows.engine import StepFailed, enqueue, step, workflow

ATTEMPTS_PER_HOUR = 20
UNKEPT = timedelta(minutes=2)
"""A consent that was fetched is revoked after this unless it was kept: whoever fetched it was killed in between."""

WAITS = (5, 30, 120, 600, 3600)
"""Seconds between tries to have a vendor forget a token; the last one again and again. Nothing is held meanwhile."""

TOLD_AFTER = 5
"""The operator hears of a revocation that has not come through after so many repeats: about an hour and a quarter."""

DROPPED_AFTER = 24
"""A vendor that answers, and refuses, is asked no more after so many refusals: about a day."""

LOST_AFTER = timedelta(minutes=10)
LOST_A_ROUND = 50
"""So many revocations of that age are looked at in one round, the oldest first."""

log = get_logger("clawhaven.integrations")


def vendor_of(ctx: Context, name: str) -> Integration:
    """An integration by its name. Raises NotFound."""
    if name not in ctx.integrations:
        raise NotFound(f"There is no integration {name[:40]}; there is {', '.join(ctx.integrations)}.")
    return ctx.integrations[name]


def return_url(ctx: Context, vendor: str) -> str:
    """Where the vendor sends the customer back to. The operator tells it to the vendor."""
    return f"{ctx.settings.base_url}/integrations/{vendor}/callback"


def begin(ctx: Context, vendor: str, account_id: str, session_id: str | None, actor: str, back_to: str) -> str:
    """The address of the vendor's consent page, good for half an hour and this account.

    `session_id`: the browser's session, which alone may come back; None for a program, then any session of the
    account may. Raises NotFound, Unavailable `integration_off`, RateLimited.
    """
    provider = vendor_of(ctx, vendor)
    if not provider.is_ready:
        raise Unavailable(f"{provider.label} cannot be connected here: it is not switched on.", code="integration_off")
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        ratelimit.hit(db, f"integration:{account_id}", ATTEMPTS_PER_HOUR, 3600, now)
        begun = attempts.begin(db, ctx.keys, account_id, vendor, session_id, back_to, now)
        audit.record(db, now, actor, "integration.ask", vendor, account_id)
    return provider.consent_url(begun.state, begun.challenge, return_url(ctx, vendor))


def complete(
    ctx: Context, vendor: str, account_id: str, session_id: str | None, state: str, code: str, actor: str
) -> tuple[Connected, str]:
    """Somebody came back with a code: keep what they gave. The second value is the page they came from.

    From the moment it is ours a consent is either kept or revoked, wherever this is killed. One that the vendor had
    given out when we were killed before we could write it down is known to nobody here.

    Raises Conflict `stale_consent` (not begun here, by this account, or too late), `consent_denied` (no code: they
    said no), `being_disconnected` (nothing is used up: the same answer is good in half a minute), Invalid
    `no_permission` (every box unticked; nothing is kept), Unavailable while the vendor is down.
    """
    provider, now = vendor_of(ctx, vendor), ctx.clock.now()
    with ctx.db.tx() as db:
        is_clear = not code or connected.hold_revocations(db, account_id, vendor, now)
        known = attempts.take(db, ctx.keys, state, account_id, vendor, session_id, now) if is_clear else None
    if known is None:
        raise Conflict(
            f"{provider.label} is being told to forget what was connected before. Load this page again in half a"
            " minute.",
            code="being_disconnected",
        )
    if not code:
        raise Conflict(f"{provider.label} says that you did not agree. Nothing was connected.", code="consent_denied")
    consent = _exchange(ctx, provider, code, known.verifier)
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        unkept = connected.refuse(db, ctx.keys, account_id, vendor, consent, now + UNKEPT)
        _revoke_later(db, ctx, unkept)
    with ctx.db.tx() as db:
        access.hold_account(db, account_id)
        if unkept is not None:
            connected.end_revocation(db, unkept)
        is_gone = signup.owner_of(db, account_id).user.deleted_at is not None
        if is_gone or not consent.scopes:
            _revoke_later(db, ctx, connected.refuse(db, ctx.keys, account_id, vendor, consent, now))
        else:
            row, old = connected.connect(db, ctx.keys, account_id, vendor, consent, now)
            _revoke_later(db, ctx, old)
            scopes = sorted(consent.scopes)
            audit.record(db, now, actor, "integration.connect", row.id, account_id, vendor=vendor, scopes=scopes)
    if is_gone:
        raise Unauthorized("This account is deleted.")
    if not consent.scopes:
        names = " or ".join(part.label for part in provider.parts)
        raise Invalid(
            f"You gave no permission to read {names}, so nothing was connected. Try once more and tick what your"
            " assistant may read.",
            code="no_permission",
            field="scopes",
        )
    return row, known.back_to


def disconnect(db: Session, ctx: Context, account_id: str, vendor: str, actor: str) -> None:
    """Forget it, take it from every assistant, and have the vendor forget it too. Raises NotFound."""
    access.hold_account(db, account_id)
    row = connected.find(db, account_id, vendor, is_locked=True)
    if row is None:
        raise NotFound("This is not connected (any more).")
    integration_id, now = row.id, ctx.clock.now()
    for instance_id in attachments.detach_all(db, integration_id):
        _follow(db, ctx, instance_id, actor)
    _revoke_later(db, ctx, connected.disconnect(db, row, now))
    audit.record(db, now, actor, "integration.disconnect", integration_id, account_id, vendor=vendor)


def forget_account(db: Session, ctx: Context, account_id: str, actor: str) -> None:
    """The account is being deleted: disconnect everything, and let nobody come back from a consent page."""
    attempts.forget(db, account_id)
    for row in connected.list_of(db, account_id):
        disconnect(db, ctx, account_id, row.vendor, actor)


def resume_revocations(ctx: Context) -> list[str]:
    """Ask again for revocations that nothing is under way for (their workflow broke); returns their ids."""
    now = ctx.clock.now()
    with ctx.db.read() as db:
        waiting = connected.revocations_before(db, now - LOST_AFTER, LOST_A_ROUND)
    lost = [one for one in waiting if engine.is_over(ctx, f"revoke_integration:{one}")]
    for revocation_id in lost:
        with ctx.db.tx() as db:
            _enqueue_revocation(db, ctx, revocation_id, chain=f"again-{int(now.timestamp())}")
    return lost


def is_revoking(db: Session, account_id: str) -> bool:
    """True while a vendor has not confirmed that it forgot something of this account."""
    return bool(connected.revocations_of(db, account_id))


def attach(db: Session, ctx: Context, instance_id: str, vendor: str, actor: str) -> bool:
    """Let an assistant read what its account has connected; its gateway follows. False when it could before.

    Raises Conflict `not_connected`, IllegalMove for an assistant that is deleted.
    """
    label = vendor_of(ctx, vendor).label
    instance = _held(db, instance_id)
    if instance.state == State.DELETED or instance.deletion_asked_at is not None:
        raise IllegalMove("The assistant is being deleted.", state=instance.state)
    row = connected.find(db, instance.account_id, vendor, is_locked=True)
    if row is None:
        raise Conflict(f"Connect {label} first, in the settings.", code="not_connected", vendor=vendor)
    now = ctx.clock.now()
    if not attachments.attach(db, ctx.keys, instance_id, row, now):
        return False
    audit.record(db, now, actor, "integration.attach", instance_id, instance.account_id, vendor=vendor)
    lifecycle.ask_configure(db, ctx, instance_id, actor, ["integrations"])
    return True


def detach(db: Session, ctx: Context, instance_id: str, vendor: str, actor: str) -> bool:
    """Take it away: from this transaction on its gateway reads nothing more. False when there was nothing."""
    instance = _held(db, instance_id)
    if not attachments.detach(db, instance_id, vendor_of(ctx, vendor).name):
        return False
    now = ctx.clock.now()
    audit.record(db, now, actor, "integration.detach", instance_id, instance.account_id, vendor=vendor)
    _follow(db, ctx, instance_id, actor)
    return True


@workflow("revoke_integration")
def revoke_integration(revocation_id: str, look: int = 0, refusals: int = 0, chain: str = "") -> str:
    """One try. Until the vendor has forgotten it another one is asked for, later.

    However long it does not answer: those that wait keep nobody's place. A vendor that refuses is asked for a day.
    """
    code, is_refused = "not_yet", False
    try:
        if not revoke_at_vendor(revocation_id):
            return "revoked"
    except StepFailed as failure:
        code, is_refused = failure.code, not failure.is_away
    if look == TOLD_AFTER:
        tell_stuck_revocation(revocation_id, code)
    refusals += is_refused
    if is_refused and refusals > DROPPED_AFTER:
        drop_revocation(revocation_id, code)
        return "dropped"
    revoke_again(revocation_id, look + 1, refusals, chain)
    return "waiting"


@step("revoke_at_vendor", attempts=1)
def revoke_at_vendor(revocation_id: str) -> bool:
    """Ask once; gone is success. True when it is too early to ask.

    A token that no key of ours opens any more can be told to nobody: it is dropped.
    """
    ctx = engine.context()
    try:
        with ctx.db.read() as db:
            if connected.is_held(db, revocation_id, ctx.clock.now()):
                return True
            found = connected.revocation_token(db, ctx.keys, revocation_id)
        if found is None:
            return False
        vendor, token = found
        vendor_of(ctx, vendor).revoke(token)
    except SealBroken:
        log.error("a token cannot be opened, so its vendor was not told to forget it", revocation=revocation_id)
    with ctx.db.tx() as db:
        connected.end_revocation(db, revocation_id)
    return False


@step("revoke_again")
def revoke_again(revocation_id: str, look: int, refusals: int, chain: str) -> None:
    """Ask for the next try, some time from now."""
    ctx = engine.context()
    with ctx.db.tx() as db:
        _enqueue_revocation(db, ctx, revocation_id, look, refusals, chain, WAITS[min(look, len(WAITS)) - 1])


@step("tell_stuck_revocation")
def tell_stuck_revocation(revocation_id: str, code: str) -> None:
    """The operator hears, once, that a vendor has not forgotten a permission."""
    ctx = engine.context()
    with ctx.db.tx() as db:
        row = connected.find_revocation(db, revocation_id)
        if row is None:
            return
        text = (
            f"The account {row.account_id} has disconnected {row.vendor}, which has not confirmed that it forgot the"
            f" permission ({code}). It is told again every hour; if it goes on refusing, for a day. See the log for"
            f" details: {revocation_id}.\n\nThe customer can end it too, in the security settings of their account"
            f" at {row.vendor}.\n"
        )
        letter = kinds.alert(f"A permission at {row.vendor} could not be revoked yet: {row.account_id}", text)
        letters.post_to(db, ctx, f"revocation-stuck:{revocation_id}", letter, ctx.settings.support_address)


@step("drop_revocation")
def drop_revocation(revocation_id: str, code: str) -> None:
    """The vendor refuses for good: the token goes, and nobody here can use it any more."""
    ctx = engine.context()
    with ctx.db.tx() as db:
        row = connected.find_revocation(db, revocation_id)
        if row is None:
            return
        log.error("a vendor refuses to revoke a permission", revocation=revocation_id, vendor=row.vendor, code=code)
        actor, told = "workflow:revoke_integration", {"vendor": row.vendor, "code": code}
        audit.record(db, ctx.clock.now(), actor, "integration.unrevoked", revocation_id, row.account_id, **told)
        connected.end_revocation(db, revocation_id)


def _held(db: Session, instance_id: str) -> Instance:
    """The assistant, after its account: whoever changes integrations goes in this order."""
    access.hold_account(db, db.get_one(Instance, instance_id).account_id)
    return lifecycle.locked(db, instance_id)


def _exchange(ctx: Context, provider: Integration, code: str, verifier: str) -> Consent:
    try:
        return provider.complete(code, verifier, return_url(ctx, provider.name))
    except ProviderError as error:
        log.warning("a consent was not completed", vendor=provider.name, code=error.code, error=error.message)
        if error.code == "consent_refused":
            raise Conflict(
                f"{provider.label} did not accept this answer; it may have been used before. Please try once more.",
                code="stale_consent",
            ) from None
    raise Unavailable(f"{provider.label} cannot be connected at the moment. Please try again later.")


def _revoke_later(db: Session, ctx: Context, revocation_id: str | None) -> None:
    if revocation_id is not None:
        _enqueue_revocation(db, ctx, revocation_id)


def _enqueue_revocation(
    db: Session,
    ctx: Context,
    revocation_id: str,
    look: int = 0,
    refusals: int = 0,
    chain: str = "",
    wait: float | None = None,
) -> None:
    """`chain`: of the looks that began with the same one. The engine runs nothing twice that has the same name."""
    enqueue(
        db,
        ctx,
        "revoke_integration",
        ":".join(part for part in ("revoke_integration", revocation_id, chain, str(look or "")) if part),
        revocation_id,
        look,
        refusals,
        chain,
        queue=engine.ACCOUNTS,
        partition=revocation_id,
        after_seconds=wait,
    )


def _follow(db: Session, ctx: Context, instance_id: str, actor: str) -> None:
    """Its gateway forgets the server. Where it cannot be asked now it has nothing to lose: the token is void already,
    and what waits for it reads these rows."""
    with contextlib.suppress(RateLimited, IllegalMove):
        lifecycle.ask_configure(db, ctx, instance_id, actor, ["integrations"])
