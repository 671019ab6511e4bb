"""Web chat: the owner's words to the instance's own gateway, the answer as it grows. Not durable: a turn is a turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from clawhaven.accounts.ownership import owned
from clawhaven.context import Context
from clawhaven.core.errors import IllegalMove, Invalid, Unavailable
from clawhaven.core.ids import new_id
from clawhaven.instances import states
from clawhaven.instances.models import Instance
from clawhaven.instances.states import State
from clawhaven.metering import usage
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.gateway import ChatEvent, GatewayAddress, Said
from clawhaven.workflows import files

MAX_MESSAGE = 16_000
SESSION = "agent:main:web"
MOST_SAID = 100
"""Lines of earlier talk that a page shows."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn: its key, and the events of its answer."""

    key: str
    events: Iterator[ChatEvent]


def begin(ctx: Context, instance_id: str, account_id: str, message: str, key: str | None = None) -> Turn:
    """Send a message. Raises Invalid, NotFound, IllegalMove or Unavailable before anything was sent.

    The same `key` again never makes a second turn: it gives the same answer.
    """
    text = message.strip()
    if not text or len(text) > MAX_MESSAGE:
        raise Invalid(f"A message has 1 to {MAX_MESSAGE} characters.", field="message", reason="wrong length")
    turn = key or new_id("trn")
    return _reach(
        ctx,
        instance_id,
        account_id,
        lambda address: Turn(turn, _events(ctx.gateway.chat(address, SESSION, text, turn))),
    )


def converse(ctx: Context, instance_id: str, account_id: str, message: str) -> Iterator[ChatEvent]:
    """Send a message and yield the answer as it grows; see `begin`."""
    return begin(ctx, instance_id, account_id, message).events


def earlier(ctx: Context, instance_id: str, account_id: str) -> Sequence[Said]:
    """What was said in the browser before, oldest first. Raises NotFound, IllegalMove, Unavailable."""
    return _reach(ctx, instance_id, account_id, lambda address: ctx.gateway.history(address, SESSION, MOST_SAID))


def usage_of(ctx: Context, turn: Turn) -> dict[str, Any]:
    """What the model calls of this turn used and cost, from our own metering."""
    with ctx.db.read() as db:
        calls = usage.calls_of_trace(db, ctx.gateway.trace_id(turn.key))
    return {
        "calls": len(calls),
        "input_tokens": sum(call.input_tokens for call in calls),
        "output_tokens": sum(call.output_tokens for call in calls),
        "cache_read_tokens": sum(call.cache_read_tokens for call in calls),
        "cache_write_tokens": sum(call.cache_write_5m_tokens + call.cache_write_1h_tokens for call in calls),
        "price_micros": sum(call.price_micros for call in calls),
        "call_ids": [call.id for call in calls],
    }


def _reach(ctx: Context, instance_id: str, account_id: str, ask: Callable[[GatewayAddress], T]) -> T:
    """What `ask` gets from the owner's running gateway. Raises NotFound, IllegalMove, Unavailable."""
    with ctx.db.read() as db:
        instance = owned(db, Instance, instance_id, account_id)
    if instance.state != State.ACTIVE:
        called = states.CALLED[instance.state]
        raise IllegalMove(f"The assistant is {called}; it can chat once it runs.", state=instance.state)
    try:
        address = files.address(ctx, instance)
        if address is not None:
            return ask(address)
    except ProviderError as error:
        raise Unavailable("The assistant cannot be reached at the moment. Please try again.") from error
    raise Unavailable("The assistant is restarting. Please try again in a minute.")


def _events(events: Iterator[ChatEvent]) -> Iterator[ChatEvent]:
    try:
        yield from events
    except ProviderError:
        yield ChatEvent("error", "The assistant cannot be reached at the moment. Please try again.")
