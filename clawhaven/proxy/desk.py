"""What the proxy asks of the database: who is this, may this call be made, what did it cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from clawhaven import metering
from clawhaven.billing import wallet
from clawhaven.core.errors import AppError, NotFound, PaymentRequired, RateLimited, Unauthorized
from clawhaven.core.logs import get_logger
from clawhaven.core.secrets import KeyRing
from clawhaven.instances.states import Reason, reasons_of
from clawhaven.metering import Ask, Bearer, ClosedCall, Closing, Grant, OpenCall, Opening, PlanMode, Price, programs
from clawhaven.metering.batches import SUSPENDED
from clawhaven.metering.spending import MONEY_LIMITS, note_reached
from clawhaven.ports.upstream import Dialect, OutRequest, Upstream, Usage, UsageReader
from clawhaven.proxy.counter import CounterContext, CountingFailed, Counts, count_in_a_thread
from clawhaven.proxy.metrics import METER
from clawhaven.proxy.refusals import OVERDUE

DATABASE_THREADS = 4
KNOWN_SECONDS = 5.0
RETRY_SECONDS = (1, 2, 5, 10, 20, 40, 60, 120, 240, 480)
MOST_KNOWN = 10_000
T = TypeVar("T")
log = get_logger(__name__)


class ProxyContext(CounterContext, Protocol):
    """What the proxy needs; clawhaven.context.Context has it."""

    @property
    def keys(self) -> KeyRing:
        """What opens customers' own vendor keys."""

    @property
    def upstreams(self) -> Mapping[str, Upstream]:
        """LLM vendors by name."""


@dataclass(frozen=True, slots=True)
class Verbs:
    """What a call needs of a vendor, looked up once: ports.upstream.Upstream's pure verbs. `answer`: it is local."""

    origin: Upstream
    name: str
    label: str
    is_ready: bool
    dialects: frozenset[Dialect]
    request: Callable[..., OutRequest]
    reader: Callable[[Dialect, bool], UsageReader]
    answer: Callable[..., Awaitable[tuple[int, dict[str, str], AsyncIterator[bytes]]]] | None

    @classmethod
    def of(cls, upstream: Upstream) -> Verbs:
        """Those of this vendor."""
        local = getattr(upstream, "answer", None)
        is_ready = getattr(upstream, "is_ready", True)
        verbs = (upstream.dialects(), upstream.request, upstream.reader, local)
        return cls(upstream, upstream.name, upstream.label, is_ready, *verbs)


class Desk:
    """Database work of the proxy."""

    def __init__(self, ctx: ProxyContext, counter: Counts | None = None) -> None:
        self._ctx = ctx
        self._threads = ThreadPoolExecutor(DATABASE_THREADS, "proxy-db")
        self._counter = counter or count_in_a_thread(ctx)
        self._verbs: dict[str, Verbs] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._known: dict[str, tuple[float, Bearer]] = {}
        self._looks: dict[str, asyncio.Task[Bearer]] = {}
        self._told: set[tuple[str, str, str]] = set()

    async def recognise(self, key_hash: str, instance_id: str | None) -> Bearer:
        """Who holds a key, as it was a few seconds ago: enough to read a request, not to serve it.

        Raises Unauthorized.
        """
        known = self._known.get(key_hash)
        bearer = known[1] if known is not None and known[0] > time.monotonic() else await self._look_once(key_hash)
        if instance_id is not None and instance_id != bearer.grant.instance_id:
            raise Unauthorized("This model key is not valid.")
        return bearer

    async def _look_once(self, key_hash: str) -> Bearer:
        """One look for all who ask at the same time; it goes on though the first of them leaves."""
        look = self._looks.get(key_hash)
        if look is None:
            look = self._looks[key_hash] = asyncio.create_task(self._look(key_hash))
            look.add_done_callback(lambda _: self._looks.pop(key_hash))
        return await asyncio.shield(look)

    async def _look(self, key_hash: str) -> Bearer:
        bearer = await self.authenticate(key_hash, None)
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[key_hash] = (time.monotonic() + KNOWN_SECONDS, bearer)
        return bearer

    async def authenticate(self, key_hash: str, instance_id: str | None) -> Bearer:
        """Who holds a key, read without a write lock. `instance_id`: whom the client says it is, or None.

        Raises Unauthorized.
        """

        def find() -> Bearer:
            with self._ctx.db.read() as db:
                return metering.find_bearer(db, key_hash)

        bearer = await self._run(find)
        if instance_id is not None and instance_id != bearer.grant.instance_id:
            raise Unauthorized("This model key is not valid.")
        program = bearer.program
        if program is not None and programs.is_due(program, self._ctx.clock.now()):
            self._keep(self._run(lambda: self._note_use(program.id)))
        return bearer

    async def admit(self, bearer: Bearer, ask: Ask) -> OpenCall:
        """Open the call; raises what metering.run_batch refuses with, or CountingFailed."""
        grant = bearer.grant
        call_id = metering.new_call_id(self._ctx.clock.now())
        opening = Opening(ask, bearer.key_hash, self._reachable(grant), call_id)
        try:
            opened: OpenCall = await self._counter.do(opening)
        except CountingFailed:  # its commit may have gone through all the same: then it holds money for nobody
            self._later(Closing(call_id, None, 499, "not admitted"))
            raise
        except PaymentRequired:
            await self._run(lambda: self._note_refusal(grant))
            raise
        except RateLimited as refusal:
            await self._note_limit(grant, refusal.error_code)
            raise
        return opened

    async def settle(
        self, call_id: str, usage: Usage | None, http_status: int | None, error: str | None = None
    ) -> ClosedCall:
        """Close the call. Once begun it is carried through, also when the task that waits for it is cancelled."""
        closing = Closing(call_id, usage, http_status, error)
        try:
            closed: ClosedCall = await self._counter.do(closing)
        except CountingFailed:
            self._later(closing)
            raise
        METER.settle(usage, closed)
        return closed

    async def explain(self, problem: AppError, grant: Grant) -> AppError:
        """What to tell a program of why it is refused: an assistant may be paused for want of money."""
        if problem.error_code != SUSPENDED:
            return problem

        def look() -> list[Reason]:
            with self._ctx.db.read() as db:
                return reasons_of(db, grant.instance_id)

        reasons = set(await self._run(look))
        if not reasons or reasons - {Reason.BALANCE, Reason.PAYMENT}:
            return problem
        is_overdue = Reason.PAYMENT in reasons
        return PaymentRequired(problem.message, code=OVERDUE if is_overdue else None)

    def _later(self, closing: Closing) -> None:
        self._keep(self._settle_later(closing))

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _settle_later(self, closing: Closing) -> None:
        """Try a settlement that failed again and again until its call would be swept: the database comes back."""
        for seconds in RETRY_SECONDS:
            await asyncio.sleep(seconds)
            try:
                await self._counter.do(closing)
            except NotFound:
                return  # it was never opened
            except (CountingFailed, AppError) as problem:
                log.warning("not_settled_yet", call=closing.call_id, reason=str(problem))
            else:
                return

    def offered(self, grant: Grant) -> list[Price]:
        """The models this grant may use on this installation."""
        return metering.offered_prices(
            grant, upstreams=self._reachable(grant), now=self._ctx.clock.now(), prices=self._ctx.prices
        )

    def price(self, grant: Grant, model: str) -> Price:
        """The price of one of them. Raises Invalid `unknown_model`."""
        reachable = self._reachable(grant)
        return metering.find_price(
            grant, model, upstreams=reachable, now=self._ctx.clock.now(), prices=self._ctx.prices
        )

    def upstream(self, name: str) -> Verbs:
        """A vendor by its name."""
        known = self._verbs.get(name)
        if known is None or known.origin is not self._ctx.upstreams[name]:
            known = self._verbs[name] = Verbs.of(self._ctx.upstreams[name])
        return known

    def vendor_of(self, model: str) -> str | None:
        """The vendor of a priced model, whoever may use it."""
        price = self._ctx.prices.find(model, self._ctx.clock.now())
        return None if price is None else price.upstream

    def vendor_key(self, sealed: str | None) -> str:
        """The customer's own vendor key, or empty for the operator's."""
        return self._ctx.keys.open(sealed, metering.OWN_KEY_PURPOSE) if sealed else ""

    def close(self) -> None:
        """Let running transactions end and stop the threads."""
        self._counter.close()
        self._threads.shutdown()

    async def _note_limit(self, grant: Grant, limit: str) -> None:
        """A limit of money a day refused a call: its customer will be told. Written once a day and process."""
        now = self._ctx.clock.now()
        mark = (grant.instance_id, limit, now.date().isoformat())
        if limit not in MONEY_LIMITS or mark in self._told:
            return

        def note() -> None:
            with self._ctx.db.tx() as db:
                note_reached(db, grant, limit, now)

        if len(self._told) >= MOST_KNOWN:
            self._told.clear()
        self._told.add(mark)
        try:
            await self._run(note)
        except SQLAlchemyError:
            self._told.discard(mark)
            log.exception("limit_not_noted", instance=grant.instance_id, limit=limit)

    def _note_refusal(self, grant: Grant) -> None:
        """For want of credit: the wallet's rules want to know. Noted once, so that refusals cost one read each.

        Whatever happens here, the person still gets the sentence with the link; the next refusal is noted instead.
        """
        try:
            with self._ctx.db.read() as db:
                if wallet.is_marked(db, grant.account_id):
                    return
            with self._ctx.db.tx() as db:
                wallet.mark_refused(db, grant.account_id, self._ctx.clock.now())
        except SQLAlchemyError:
            log.exception("refusal_not_noted", account=grant.account_id)

    def _note_use(self, program_id: str) -> None:
        try:
            with self._ctx.db.tx() as db:
                programs.touch(db, program_id, self._ctx.clock.now())
        except SQLAlchemyError:
            log.exception("use_not_noted", program=program_id)

    def _reachable(self, grant: Grant) -> list[str]:
        is_own = grant.plan_mode == PlanMode.OWN_KEY
        return [name for name in self._ctx.upstreams if is_own or self.upstream(name).is_ready]

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)
