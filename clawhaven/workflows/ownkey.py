"""A customer's own model key: tested at its vendor, then kept sealed; the assistant follows to that vendor's models."""

from __future__ import annotations

from sqlalchemy.orm import Session

from clawhaven.context import Context
from clawhaven.core import audit, ratelimit
from clawhaven.core.errors import Conflict, IllegalMove, Invalid, Unavailable
from clawhaven.instances.models import Instance
from clawhaven.instances.states import State
from clawhaven.metering import grants, ownkeys
from clawhaven.metering.models import OwnKey, PlanMode
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.upstream import Upstream
from clawhaven.workflows import checkout, lifecycle

TESTS_PER_MINUTE = 10
"""Per account: nobody finds out here which of many keys are good."""

LENGTHS = range(8, 401)


def put(ctx: Context, instance_id: str, api_key: str, vendor: str, actor: str) -> OwnKey:
    """Test a key at its vendor, then keep it sealed, in place of the one before. `vendor` empty: told by the key.

    A living assistant uses it from its next call on. When its model is another vendor's, it gets one of this vendor.
    Raises Invalid (with the field), Conflict `not_own_key` on another kind of plan, IllegalMove once deleted,
    RateLimited, Unavailable when the vendor cannot be asked; then nothing has changed.
    """
    _vendor_of(ctx, api_key.strip(), vendor.strip())
    with ctx.db.read() as db:
        instance = db.get_one(Instance, instance_id)
    _refuse_unfit(ctx, instance)
    key, name = try_out(ctx, instance.account_id, api_key, vendor)
    with ctx.db.tx() as db:
        instance = lifecycle.locked(db, instance_id)
        _refuse_unfit(ctx, instance)
        before = instance.model
        kept = keep(db, ctx, instance, name, key, actor)
        if instance.model != before:
            lifecycle.ask_configure(db, ctx, instance_id, actor, ["model"])
        return kept


def try_out(ctx: Context, account_id: str, api_key: str, vendor: str) -> tuple[str, str]:
    """Ask a key's vendor whether it takes it; returns the key, stripped, and the vendor. Raises as `put`."""
    key = api_key.strip()
    name = _vendor_of(ctx, key, vendor.strip())
    with ctx.db.tx() as db:
        ratelimit.hit(db, f"own-key:{account_id}", TESTS_PER_MINUTE, 60, ctx.clock.now())
    _test(ctx.upstreams[name], key)
    return key, name


def keep(db: Session, ctx: Context, instance: Instance, vendor: str, api_key: str, actor: str) -> OwnKey:
    """Seal a tested key for an assistant, and set it to a model of the key's vendor where it has another's."""
    now = ctx.clock.now()
    kept = ownkeys.put(db, instance.id, vendor, api_key, ctx.keys, now)
    grants.set_own_key(db, instance.id, kept.upstream, kept.sealed, now=now)
    audit.record(db, now, actor, "instance.own_key.set", instance.id, instance.account_id, vendor=vendor)
    price = ctx.prices.find(instance.model, now)
    if price is None or price.upstream != vendor:
        instance.model = first_model(ctx, vendor)
        db.flush()
    return kept


def remove(db: Session, ctx: Context, instance_id: str, actor: str) -> bool:
    """Forget the key at once; calls are then answered with where to put one. False when there was none."""
    instance = lifecycle.locked(db, instance_id)
    if not ownkeys.remove(db, instance_id):
        return False
    now = ctx.clock.now()
    grants.set_own_key(db, instance_id, None, None, now=now)
    audit.record(db, now, actor, "instance.own_key.remove", instance_id, instance.account_id)
    return True


def model_vendors(db: Session, ctx: Context, instance: Instance) -> set[str]:
    """Vendors whose models this assistant can be set to.

    On an own-key plan its key's vendor, or any until there is a key; else those the operator has a key for.
    """
    if ctx.plans.get(instance.plan).access == PlanMode.OWN_KEY:
        found = ownkeys.find(db, instance.id)
        return {found.upstream} if found else set(ctx.upstreams)
    return {name for name in ctx.upstreams if checkout.is_usable(ctx, name)}


def _vendor_of(ctx: Context, key: str, vendor: str) -> str:
    """The vendor that was named, or whose keys begin like this one. One vendor's key is never sent to another."""
    if vendor and vendor not in ctx.upstreams:
        raise Invalid(f"Vendors are {', '.join(ctx.upstreams)}.", field="vendor", reason="unknown vendor")
    if len(key) not in LENGTHS or not key.isascii() or not key.isprintable() or " " in key:
        raise Invalid(
            "This is not an API key. Copy it again, all of it and nothing else.",
            code="invalid_api_key",
            field="api_key",
            reason="wrong format",
        )
    prefixes = {name: upstream.key_prefix for name, upstream in ctx.upstreams.items()}
    alike = [name for name, prefix in prefixes.items() if key.startswith(prefix)]
    told = max(alike, key=lambda name: len(prefixes[name]), default="")
    if not (vendor or told):
        raise Invalid(f"Say whose key this is: {', '.join(ctx.upstreams)}.", field="vendor", reason="unknown vendor")
    if vendor and told and told != vendor:
        labels = ctx.upstreams[told].label, ctx.upstreams[vendor].label
        raise Invalid("This looks like a key of {}, not of {}.".format(*labels), field="vendor", reason="other vendor")
    return vendor or told


def _test(vendor: Upstream, key: str) -> None:
    try:
        vendor.check_key(key)
    except ProviderError as error:
        if not error.permanent:
            raise Unavailable(
                f"{vendor.label} cannot be reached at the moment, so the key could not be tested and was not kept."
                " Please try again.",
                field="api_key",
            ) from None
        mend = f" Make one here: {vendor.keys_url}" if vendor.keys_url else ""
        if error.code == "restricted_api_key":
            raise Invalid(
                f"{vendor.label} knows this key, but it may not use models. Give it that permission, or use another."
                + mend,
                code="restricted_api_key",
                field="api_key",
            ) from None
        raise Invalid(
            f"{vendor.label} does not accept this key. Copy it again, or use another." + mend,
            code="invalid_api_key",
            field="api_key",
        ) from None


def _refuse_unfit(ctx: Context, instance: Instance) -> None:
    if instance.state == State.DELETED or instance.deletion_asked_at is not None:
        raise IllegalMove("The assistant is being deleted.", state=instance.state)
    plan = ctx.plans.get(instance.plan)
    if plan.access != PlanMode.OWN_KEY:
        raise Conflict(
            f"The plan {plan.name} comes with the model and uses no key of yours. Change to an own-key plan first.",
            code="not_own_key",
            plan=plan.id,
        )


def first_model(ctx: Context, vendor: str) -> str:
    """The operator's choice where it is this vendor's, else the first preferred model of the vendor, else any."""
    now = ctx.clock.now()
    table = ctx.prices
    for model in (ctx.settings.default_model, *checkout.PREFERRED_MODELS):
        price = table.find(model, now)
        if price is not None and price.upstream == vendor:
            return model
    for price in table.current(now):
        if price.upstream == vendor:
            return price.model
    raise Invalid("There is no model of this vendor here.", field="vendor", reason="no model")
