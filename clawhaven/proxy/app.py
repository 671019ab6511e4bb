"""The ASGI application: routing, credentials, body; then one exchange per call."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import MutableMapping
from dataclasses import replace
from typing import Any, cast

from sqlalchemy.exc import DBAPIError

from clawhaven.context import Context
from clawhaven.core.errors import AppError, Forbidden, NotFound, Unauthorized
from clawhaven.core.logs import get_logger
from clawhaven.core.secrets import SealBroken, hash_token
from clawhaven.metering import NO_OWN_KEY, Bearer, Grant, PlanMode, Source
from clawhaven.metering.batches import SUSPENDED
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.upstream import Dialect
from clawhaven.proxy import answers, bodies
from clawhaven.proxy.answering import Answer, AnswerCut
from clawhaven.proxy.answers import Reply
from clawhaven.proxy.bodies import ClientGone, Room, Shares, TooDense, TooMuch
from clawhaven.proxy.callers import AsgiCaller, Caller, Receive, Send
from clawhaven.proxy.counter import CountingFailed, Counts
from clawhaven.proxy.desk import Desk, ProxyContext
from clawhaven.proxy.exchange import PASSED_BACK, Exchange
from clawhaven.proxy.metrics import METER
from clawhaven.proxy.refusals import crowded, own_key_refused, refusal
from clawhaven.proxy.request import BadBody, Facts, read_facts
from clawhaven.proxy.tools import PREFIX, Tools
from clawhaven.proxy.turns import Lanes, TooMany, Turns
from clawhaven.proxy.vendor import VendorClient, is_account_refusal, read_error

Scope = MutableMapping[str, Any]

CLOSE_SECONDS = 10.0
GONE = 499
"""Counted for a client that left before it was answered."""

ROUTES = {
    "/v1/messages": Dialect.ANTHROPIC_MESSAGES,
    "/v1/messages/count_tokens": Dialect.ANTHROPIC_COUNT_TOKENS,
    "/v1/chat/completions": Dialect.OPENAI_CHAT,
    "/v1/responses": Dialect.OPENAI_RESPONSES,
    "/v1/embeddings": Dialect.OPENAI_EMBEDDINGS,
}
_CHARGED = frozenset(ROUTES.values()) - {Dialect.ANTHROPIC_COUNT_TOKENS}
_REFUSAL_HEADERS = PASSED_BACK - {"content-type"} | {"retry-after", "retry-after-ms", "x-should-retry"}
"""What clients of the vendor look at in a refusal. Its rate limits are the operator's and stay here."""

COUNTS_A_MINUTE = 600
"""Countings of tokens by an assistant whose plan has no limit of messages; else as many as messages an hour, which is
sixty times what its person may write."""

FEWEST_COUNTS = 60
COUNTS_AT_ONCE = 8
ADMISSIONS_AT_ONCE = 4
"""Of one assistant in this process. No assistant has that many for longer than a moment but in a flood, which then
leaves the others their time."""

OVERLOADED = "The model is overloaded at the moment. Please try again shortly."
NO_OFFERS = "The body did not arrive: send the request without an Upgrade header, in HTTP/1.1."
log = get_logger(__name__)


def create_app(ctx: ProxyContext, counter: Counts | None = None) -> ProxyApp:
    """The proxy as a raw ASGI application with paths from `/v1/…` on. Call `close` when its server stops.

    `counter` is where calls are opened and closed; None: in a thread of this process.
    """
    return ProxyApp(ctx, counter)


class ProxyApp:
    """The model proxy."""

    def __init__(self, ctx: ProxyContext, counter: Counts | None = None) -> None:
        self._ctx = ctx
        self._desk = Desk(ctx, counter)
        self._vendors = VendorClient(ctx.settings)
        self._calls: set[asyncio.Task[Any]] = set()
        self._counts, self._shares, self._admissions = Turns(), Shares(), Lanes(ADMISSIONS_AT_ONCE)
        self._tools = Tools(ctx) if isinstance(ctx, Context) else None
        METER.share(ctx.settings.data_dir)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            caller = AsgiCaller(scope, receive, send)
            if caller.has_lost_body:
                refused = answers.error(_guess(caller.headers), 400, NO_OFFERS)
                await _reply(caller, replace(refused, headers={"connection": "close"}))
            else:
                await self.answer(caller)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def close(self) -> None:
        """Let calls under way be settled, close connections to vendors and end the database threads.

        The server has told the calls' tasks to end before it calls this; what they settle then must not come too late.
        """
        if self._calls:
            await asyncio.wait(self._calls, timeout=CLOSE_SECONDS)
        await self._vendors.close()
        self._desk.close()
        if self._tools is not None:
            self._tools.close()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def answer(self, caller: Caller) -> None:
        """Answer one request."""
        path, method, headers = caller.path, caller.method, caller.headers
        if path == "/healthz" and method in ("GET", "HEAD"):
            await _reply(caller, Reply(200, b'{"status":"ok"}'))
            return
        if path.startswith(PREFIX) and self._tools is not None:
            await self._tools.answer(caller)
            return
        dialect = Dialect.MODELS if path == "/v1/models" else ROUTES.get(path)
        shape = dialect if dialect not in (None, Dialect.MODELS) else _guess(headers)
        if dialect is None:
            await _reply(caller, answers.error(shape, 404, f"There is nothing at {path[:100]}."))
        elif method != ("GET" if dialect is Dialect.MODELS else "POST"):
            await _reply(caller, answers.error(shape, 405, f"{method} is not possible here."))
        else:
            begun = time.perf_counter()
            METER.begin()
            try:
                await self._serve(caller, dialect, shape)
            except (DBAPIError, CountingFailed, NotFound) as error:
                log.error("not_counted", path=path, reason=str(error)[:200])
                if caller.status is not None:
                    raise  # The server cuts the connection: an answer that could not be settled is not completed.
                await _reply(caller, answers.error(shape, 529, OVERLOADED, retry_after=5))
            finally:
                status, first = caller.status, caller.first_byte_at - begun
                METER.end(dialect, status or GONE, time.perf_counter() - begun, None if status is None else first)

    async def _serve(self, caller: Caller, dialect: Dialect, shape: Dialect) -> None:
        headers = caller.headers
        try:
            bearer = await self._authenticate(headers, is_exact=dialect not in _CHARGED)
        except Unauthorized as problem:
            await _reply(caller, answers.error(shape, 401, problem.message, code="invalid_api_key"))
            return
        if dialect is Dialect.MODELS:
            await _reply(caller, answers.models(self._desk.offered(bearer.grant)))
            return
        # A program of its owner's does not take what the gateway needs.
        room = Room(self._shares, (bearer.grant.instance_id, bearer.program is not None))
        try:
            await self._hear(caller, bearer, dialect, room)
        finally:
            room.free()

    async def _hear(self, caller: Caller, bearer: Bearer, dialect: Dialect, room: Room) -> None:
        """Read the request, then do what it asks for; whoever admits it frees its room."""
        try:
            body = await bodies.read(caller, room)
            is_program = bearer.program is not None
            facts = read_facts(dialect, body, caller.headers.get("traceparent", ""), is_program=is_program)
        except TooMany as crowd:
            METER.refuse(dialect, "bodies")
            text = "Too many large requests at the same time. Try again in a moment."
            await _reply(caller, answers.error(dialect, 429, text, retry_after=crowd.retry_after))
        except TooMuch:
            message = f"The request is larger than {bodies.MAX_BODY_BYTES // 1024**2} MB."
            await _reply(caller, answers.error(dialect, 413, message))
        except TooDense:  # the vendors' words for it, at which clients shorten their conversation
            message = "prompt is too long: the request has more parts than any model reads."
            await _reply(caller, answers.error(dialect, 400, message))
        except BadBody as problem:
            await _reply(caller, answers.error(dialect, 400, str(problem)))
        except ClientGone:
            return
        else:
            path = f"{caller.path}?{caller.query}" if caller.query else caller.path
            if dialect is Dialect.ANTHROPIC_COUNT_TOKENS:
                await self._count_tokens(caller, bearer, facts, path, body, room)
            else:
                await self._call(caller, bearer, dialect, facts, path, body, room)

    async def _authenticate(self, headers: dict[str, str], *, is_exact: bool) -> Bearer:
        """`is_exact` False: a call that is charged is looked at again when it is admitted."""
        key, instance_id = _credentials(headers)
        if not key:
            raise Unauthorized("Send a model key as x-api-key or bearer token.")
        find = self._desk.authenticate if is_exact else self._desk.recognise
        return await find(hash_token(key), instance_id)

    async def _call(
        self, caller: Caller, bearer: Bearer, dialect: Dialect, facts: Facts, path: str, body: bytes, room: Room
    ) -> None:
        try:
            self._check_endpoint(dialect, facts.call.model)
            async with self._admissions.place(bearer.grant.instance_id):
                call = await self._desk.admit(bearer, facts.ask)
            room.free()
        except AppError as problem:
            METER.refuse(dialect, problem.error_code)
            await _reply(caller, await self._refusal(problem, dialect, facts, bearer.grant))
            return
        except BadBody as problem:
            await _reply(caller, answers.error(dialect, 400, str(problem)))
            return
        exchange = Exchange(self._desk, call, dialect, facts, len(body), caller.send, caller.receive)
        upstream = self._desk.upstream(call.price.upstream)
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        watcher = asyncio.create_task(_watch(caller, exchange)) if facts.call.is_stream else None
        answer: Answer | None = None
        is_ended = False
        try:
            key = self._desk.vendor_key(call.own_key_sealed)
            self._calls.add(task)
            answer = await self._vendors.send(upstream, dialect, path, caller.headers, body, key, facts.call)
            if 200 <= answer.status < 300:
                await exchange.relay(answer, upstream.reader(dialect, answer.is_stream))
            else:
                await self._pass_refusal(exchange, answer)
            is_ended = True
        except AnswerCut as cut:
            log.warning("vendor_silent", upstream=upstream.name, call=call.id, reason=cut.message)
            await exchange.refuse(answers.error(dialect, cut.status, cut.message), status=cut.status, error=cut.message)
            is_ended = True
        except (ProviderError, SealBroken) as problem:
            log.error("vendor_unusable", upstream=upstream.name, call=call.id, reason=str(problem))
            await exchange.refuse(answers.error(dialect, 529, OVERLOADED), status=529, error="vendor unusable")
            is_ended = True
        except CountingFailed:
            is_ended = True  # the desk goes on trying, with what was used
            raise
        finally:
            if not is_ended:  # the server stops, or something nobody expected; a call that is closed stays as it is
                with contextlib.suppress(CountingFailed, AppError):
                    await self._desk.settle(call.id, None, 499, "not finished")
            self._calls.discard(task)
            if answer is not None:
                answer.close()
            if watcher is not None:
                watcher.cancel()

    async def _pass_refusal(self, exchange: Exchange, answer: Answer) -> None:
        """A vendor's error: passed on as it is, unless it is about the key or account behind it."""
        body = await read_error(answer)
        vendor, call, dialect = exchange.call.price.upstream, exchange.call, exchange.dialect
        error = f"vendor answered {answer.status}"
        if answer.status < 400:
            reply = answers.error(dialect, 529, OVERLOADED)
        elif not is_account_refusal(answer.status, body):
            kind = answer.headers.get("content-type", "application/json")
            if answer.status == 429 and call.plan_mode is not PlanMode.OWN_KEY:
                log.warning("vendor_limits_operator", upstream=vendor, call=call.id, body=_readable(body))
                body, kind = crowded(dialect, body), "application/json"
            told = {name: value for name, value in answer.headers.items() if name in _REFUSAL_HEADERS}
            reply = Reply(answer.status, body, kind, told)
        elif call.plan_mode is PlanMode.OWN_KEY:
            label, base_url = self._desk.upstream(vendor).label, self._ctx.settings.base_url
            reply = own_key_refused(dialect, exchange.facts, label, base_url, call.instance_id, answer.status)
        else:
            log.error(
                "vendor_refuses_operator",
                upstream=vendor,
                call=call.id,
                status=answer.status,
                body=_readable(body),
            )
            reply = answers.error(dialect, 529, OVERLOADED)
        await exchange.refuse(reply, status=answer.status, error=error)

    async def _count_tokens(
        self, caller: Caller, bearer: Bearer, facts: Facts, path: str, body: bytes, room: Room
    ) -> None:
        """Counting is free at the vendor, so it is neither reserved nor booked; the grant must be active.

        The vendor limits how often the operator may count, so we limit an assistant and its owner's programs, each by
        itself: a program does not use up what the gateway needs.
        """
        dialect, grant = Dialect.ANTHROPIC_COUNT_TOKENS, bearer.grant
        whose = f"{grant.instance_id}:{facts.ask.source is Source.PROGRAM}"
        per_minute = max(FEWEST_COUNTS, grant.messages_per_hour or COUNTS_A_MINUTE)
        try:
            self._check_endpoint(dialect, facts.call.model)
            if grant.plan_mode == PlanMode.OWN_KEY and not grant.own_key_sealed:
                raise Forbidden("This assistant has no model key yet.", code=NO_OWN_KEY, instance_id=grant.instance_id)
            upstream = self._desk.upstream(self._desk.price(grant, facts.call.model).upstream)
            key = self._desk.vendor_key(grant.own_key_sealed) if grant.plan_mode == PlanMode.OWN_KEY else ""
            if not grant.is_active and facts.ask.source is Source.PROGRAM:
                raise Forbidden("This assistant is paused.", code=SUSPENDED)
            if not grant.is_active:
                reply = answers.error(dialect, 429, f"{answers.USAGE_LIMIT.capitalize()}: this assistant is paused.")
            else:
                with self._counts.turn(whose, per_minute, COUNTS_AT_ONCE):
                    room.free()
                    answer = await self._vendors.send(upstream, dialect, path, caller.headers, body, key, facts.call)
                    found = await read_error(answer)
                    answer.close()
                is_ours = is_account_refusal(answer.status, found)
                if answer.status == 429 and grant.plan_mode != PlanMode.OWN_KEY:
                    found = crowded(dialect, found)
                reply = answers.error(dialect, 529, OVERLOADED) if is_ours else Reply(answer.status, found)
        except TooMany as crowd:
            METER.refuse(dialect, "count_tokens")
            text = "This counts tokens too often. Try again in a moment."
            reply = answers.error(dialect, 429, text, retry_after=crowd.retry_after)
        except BadBody as problem:
            reply = answers.error(dialect, 400, str(problem))
        except AppError as problem:
            reply = await self._refusal(problem, dialect, facts, grant)
        except (AnswerCut, ProviderError, SealBroken) as problem:
            log.warning("vendor_unusable", path=path, reason=str(problem))
            reply = answers.error(dialect, 529, OVERLOADED)
        await _reply(caller, reply)

    async def _refusal(self, problem: AppError, dialect: Dialect, facts: Facts, grant: Grant) -> Reply:
        if facts.ask.source is Source.PROGRAM:
            problem = await self._desk.explain(problem, grant)
        return refusal(problem, dialect, facts, self._ctx.settings.base_url)

    def _check_endpoint(self, dialect: Dialect, model: str) -> None:
        """A model asked for in the dialect of a vendor that is not its own is a mistake of the request: BadBody."""
        vendor = self._desk.vendor_of(model)
        if vendor and dialect not in self._desk.upstream(vendor).dialects:
            raise BadBody(f"The model {model[:100]} is not available at this endpoint.")


def _readable(body: bytes) -> str:
    """For the log."""
    return body[:500].decode(errors="replace")


async def _watch(caller: Caller, exchange: Exchange) -> None:
    while (await caller.receive())["type"] != "http.disconnect":
        pass
    exchange.is_gone = True


async def _reply(caller: Caller, reply: Reply) -> None:
    headers = {"content-type": reply.content_type, "content-length": str(len(reply.body)), **reply.headers}
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    await caller.send({"type": "http.response.start", "status": reply.status, "headers": encoded})
    await caller.send({"type": "http.response.body", "body": reply.body})


def _guess(headers: dict[str, str]) -> Dialect:
    """Whose client this is, where the path does not tell."""
    return Dialect.ANTHROPIC_MESSAGES if "anthropic-version" in headers else Dialect.OPENAI_CHAT


def _credentials(headers: dict[str, str]) -> tuple[str, str | None]:
    """The instance's key, and the instance's id where the client sends the pair of X-Instance-Id and -Secret."""
    if "x-instance-secret" in headers:
        return headers["x-instance-secret"], headers.get("x-instance-id", "")
    scheme, _, token = headers.get("authorization", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    return headers.get("x-api-key", "") or bearer, None
