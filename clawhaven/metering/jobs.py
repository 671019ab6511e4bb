"""What is asked of a batch of calls, and what comes of it.

Those that are made at every call are not frozen: making one would cost five times as much.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from clawhaven.core.errors import AppError
from clawhaven.metering.models import PlanMode, Source
from clawhaven.metering.rates import Price
from clawhaven.ports.upstream import Dialect, Usage

EMBEDDING_TOKENS = 300_000
"""What OpenAI reads in one request for embeddings, all of its inputs together; a context window holds for each."""


@dataclass(slots=True)
class Ask:
    """What a request wants. Token bounds are upper limits; `output_bound` None: the client set none.

    `output_bound` is that of one of the `choices` (alternative answers); the model's own limit holds for each as well.
    `extra` names something in it that vendors bill outside of the token prices (a server tool, a faster tier): only
    instances with their own vendor key may use it. `trace_id` is the W3C trace of the turn it belongs to. `passes`: how
    often the model may read all of the input and write as much as it is allowed.
    """

    model: str
    dialect: str
    input_bound: int
    output_bound: int | None
    source: Source = Source.UNKNOWN
    is_turn: bool = False
    may_cache_long: bool = True
    extra: str | None = None
    trace_id: str | None = None
    choices: int = 1
    passes: int = 1

    @property
    def is_message(self) -> bool:
        """True when it counts as a message."""
        return self.is_turn or self.source.is_automatic


def most_input(ask: Ask, price: Price) -> int:
    """Tokens that the vendor reads in one pass over a request at most."""
    most = price.context_window
    if ask.dialect == Dialect.OPENAI_EMBEDDINGS:
        most = max(most, EMBEDDING_TOKENS)
    return min(ask.input_bound, most)


def most_output(ask: Ask, price: Price) -> int:
    """Tokens that the vendor writes in one pass at most, in all choices together."""
    most = price.max_output_tokens
    return ask.choices * (most if ask.output_bound is None else min(ask.output_bound, most))


@dataclass(slots=True)
class Opening:
    """A call that wants to begin. `upstreams` are the vendors this installation can reach.

    Who does not know whether a batch was committed gives the same `call_id` (new_call_id) again; None: a fresh one.
    """

    ask: Ask
    key_hash: str
    upstreams: Collection[str]
    call_id: str | None = None


@dataclass(slots=True)
class Closing:
    """A call that ends. `usage` None: nothing is charged."""

    call_id: str
    usage: Usage | None
    http_status: int | None = None
    error: str | None = None


@dataclass(slots=True)
class OpenCall:
    """An admitted call. `own_key_sealed` is the customer's vendor key where the plan uses it."""

    id: str
    instance_id: str
    account_id: str
    plan_mode: PlanMode
    price: Price
    held_micros: int
    own_key_sealed: str | None


@dataclass(slots=True)
class ClosedCall:
    """What a call cost. `is_new` False: it was closed before and nothing moved now."""

    id: str
    account_id: str
    plan_mode: PlanMode
    provider_cost_micros: int
    price_micros: int
    uncovered_micros: int
    is_new: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a batch, in its order: the result of each, or why it was refused."""

    opened: list[OpenCall | AppError]
    closed: list[ClosedCall | AppError]
