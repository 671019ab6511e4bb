"""What the model proxy counts for Prometheus: requests, refusals, how long they take, tokens and money."""

from __future__ import annotations

from pathlib import Path

from clawhaven.core.metrics import SECONDS, Counts, Series, Sharing
from clawhaven.metering import ClosedCall
from clawhaven.ports.upstream import Usage

REQUESTS = Series(
    "clawhaven_proxy_requests", "Answered requests, by endpoint and HTTP status.", "counter", ("dialect", "status")
)
REFUSALS = Series(
    "clawhaven_proxy_refusals", "Calls that were not admitted, by reason.", "counter", ("dialect", "reason")
)
IN_FLIGHT = Series("clawhaven_proxy_in_flight", "Requests under way.", "gauge")
DURATION = Series(
    "clawhaven_proxy_request_seconds",
    "From the request's arrival to the end of its answer.",
    "histogram",
    ("dialect",),
    SECONDS,
)
FIRST_BYTE = Series(
    "clawhaven_proxy_first_byte_seconds",
    "From the request's arrival to the first byte of its answer.",
    "histogram",
    ("dialect",),
    SECONDS,
)
TOKENS = Series("clawhaven_proxy_tokens", "Tokens of settled calls, by kind.", "counter", ("kind",))
SPEND = Series(
    "clawhaven_proxy_micros",
    "Micro-dollars of settled calls: `price` is what customers were charged, `provider` what vendors charge,"
    " `uncovered` what no balance covered.",
    "counter",
    ("side",),
)
BATCH = Series(
    "clawhaven_proxy_batch_calls",
    "Calls that shared one database transaction.",
    "histogram",
    (),
    (1, 2, 4, 8, 16, 32, 64, 128, 256),
)
BATCH_SECONDS = Series(
    "clawhaven_proxy_batch_seconds", "How long such a transaction took.", "histogram", (), (0.001, 0.0025, *SECONDS)
)

SERIES = (REQUESTS, REFUSALS, IN_FLIGHT, DURATION, FIRST_BYTE, TOKENS, SPEND, BATCH, BATCH_SECONDS)


class Meter:
    """The counters of one proxy process. Every method is a few additions."""

    def __init__(self) -> None:
        self.counts = Counts(SERIES)
        self._sharing: Sharing | None = None

    def share(self, data_dir: Path) -> None:
        """From now on other processes of this host can read them."""
        if self._sharing is None:
            self._sharing = Sharing(data_dir, "proxy", self.counts)

    def close(self) -> None:
        """Stop sharing."""
        if self._sharing is not None:
            self._sharing.close()
            self._sharing = None

    def begin(self) -> None:
        """A request has arrived."""
        self.counts.add(IN_FLIGHT)

    def end(self, dialect: str, status: int, seconds: float, first_byte_seconds: float | None) -> None:
        """It is over; `first_byte_seconds` None: nothing was answered."""
        self.counts.add(IN_FLIGHT, (), -1)
        self.counts.add(REQUESTS, (dialect, str(status)))
        self.counts.observe(DURATION, (dialect,), seconds)
        if first_byte_seconds is not None:
            self.counts.observe(FIRST_BYTE, (dialect,), first_byte_seconds)

    def refuse(self, dialect: str, reason: str) -> None:
        """A call was not admitted; `reason` is the error's code."""
        self.counts.add(REFUSALS, (dialect, reason))

    def settle(self, usage: Usage | None, closed: ClosedCall) -> None:
        """A call was settled; a repeat counts nothing."""
        if not closed.is_new:
            return
        counts = self.counts
        counts.add(SPEND, ("price",), closed.price_micros)
        counts.add(SPEND, ("provider",), closed.provider_cost_micros)
        counts.add(SPEND, ("uncovered",), closed.uncovered_micros)
        if usage is not None:
            counts.add(TOKENS, ("input",), usage.input_tokens)
            counts.add(TOKENS, ("output",), usage.output_tokens)
            counts.add(TOKENS, ("cache_read",), usage.cache_read_tokens)
            counts.add(TOKENS, ("cache_write",), usage.cache_write_5m_tokens + usage.cache_write_1h_tokens)

    def batch(self, calls: int, seconds: float) -> None:
        """So many calls shared a transaction."""
        self.counts.observe(BATCH, (), calls)
        self.counts.observe(BATCH_SECONDS, (), seconds)


METER = Meter()
"""This process's own."""
