"""Trying a channel: does its network still know the bot, and does the gateway serve it."""

from __future__ import annotations

from dataclasses import dataclass

from clawhaven.accounts.ownership import owned
from clawhaven.context import Context
from clawhaven.core.errors import NotFound
from clawhaven.instances import connections
from clawhaven.instances.models import Instance
from clawhaven.instances.states import State
from clawhaven.ports.errors import ProviderError
from clawhaven.workflows import files


@dataclass(frozen=True, slots=True)
class Reach:
    """What a try found.

    `network`: `good`, `refused` (the credentials are not accepted any more) or `silent`. `gateway`: its word for the
    channel (`ready`, `starting`, `blocked` …), `asleep` while the assistant does not run, `silent`, or `waiting`
    while nobody has claimed the bot: the gateway does not know it yet. `problem`: the gateway's last error.
    """

    network: str
    gateway: str
    problem: str

    @property
    def is_good(self) -> bool:
        """True when a message to the bot would be answered."""
        return self.network == "good" and self.gateway == "ready"


def try_channel(ctx: Context, instance_id: str, account_id: str, name: str) -> Reach:
    """Ask both ends; nothing is changed. Raises NotFound for a channel that is not connected."""
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, account_id)
        found = next((one for one in connections.list_connections(db, instance_id) if one.channel == name), None)
    if found is None or name not in ctx.channels:
        raise NotFound("This channel is not connected.")
    try:
        ctx.channels[name].probe(connections.credentials_of(found, ctx.keys))
        network = "good"
    except ProviderError as error:
        network = "refused" if error.permanent else "silent"
    if found.owner_external_id is None:
        return Reach(network, "waiting", "")
    if instance.state != State.ACTIVE:
        return Reach(network, "asleep", "")
    return Reach(network, *_ask_gateway(ctx, instance, name))


def _ask_gateway(ctx: Context, instance: Instance, name: str) -> tuple[str, str]:
    try:
        address = files.address(ctx, instance)
    except ProviderError:
        address = None
    health = ctx.gateway.health(address) if address is not None else None
    if health is None or not health.authenticated:
        return "silent", ""
    return health.channels.get(name, "starting"), health.problems.get(name, "")
