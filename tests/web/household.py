"""A household of the gallery: its people, and their assistants as a payment and a finished provisioning leave them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from clawhaven.accounts import signup
from clawhaven.accounts.signup import Owner
from clawhaven.billing import checkouts
from clawhaven.context import Context
from clawhaven.instances import health
from clawhaven.instances import placement as places
from clawhaven.instances.drafts import PROXY_KEY_PURPOSE
from clawhaven.instances.models import Instance
from clawhaven.workflows import access
from tests.fakes.world import FolderRuntime
from tests.web.conftest import Visit, draft, run_it
from tests.web.test_billing import pay


@dataclass(slots=True)
class House:
    """Who lives here, and the ids that addresses need. `next_door`: the same people's other installation."""

    next_door: Context
    visits: dict[str, Visit] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)

    def cookies(self, who: str, base_url: str) -> list[Any]:
        """The sign-in of somebody, for a browser."""
        if who not in self.visits:
            return []
        jar = self.visits[who].http.cookies.jar
        return [{"name": one.name, "value": one.value or "", "url": base_url} for one in jar]


def add_person(ctx: Context, house: House, role: str, email: str) -> Owner:
    """Somebody who is signed in; with an account of their own, if there is none with this address."""
    with ctx.db.tx() as db:
        owner = signup.find_owner(db, email) or signup.register(db, email, ctx.clock.now())
    house.visits[role] = Visit(ctx)
    house.visits[role].sign_in(owner)
    return owner


def buy(ctx: Context, visit: Visit, name: str, **fields: str) -> str:
    """An assistant that is paid and not built yet; returns its id."""
    instance_id = draft(visit, assistant_name=name, **fields)
    with ctx.db.read() as db:
        found = checkouts.of_instance(db, instance_id)
    if found is not None:  # else a plan that is paid has room for one more
        pay(ctx, str(found.url))
    with ctx.db.read() as db:
        assert db.scalars(select(Instance.state).where(Instance.id == instance_id)).one() == "provisioning"
    return instance_id


def build(ctx: Context, world: FolderRuntime, instance_id: str) -> str:
    """What a finished provisioning and the first look after it leave: it is there, and answers; returns its id."""
    run_it(ctx, world, instance_id)
    chosen = ctx.settings
    with ctx.db.tx() as db:
        port = places.take_port(db, ctx.host, instance_id, chosen.port_range_start, chosen.port_range_end)
        instance = db.get_one(Instance, instance_id)
        instance.placement = {"folder": instance_id, "port": port}
        instance.openclaw_version, instance.openclaw_since_at = "2026.1.1", instance.active_at
        access.grant(db, ctx, instance, ctx.keys.open(instance.proxy_key, PROXY_KEY_PURPOSE))
        access.open_access(db, ctx, instance_id)
        health.record(db, instance_id, ctx.clock.now(), status="running", is_healthy=True, detail="")
    return instance_id
