"""The ASGI application: routing, credentials, body; then one exchange per call."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import MutableMapping
from typing import Any, cast

from sqlalchemy.exc import DBAPIError

from clawhaven.core.errors import AppError, Forbidden, NotFound, Unauthorized
from clawhaven.core.logs import get_logger
from clawhaven.core.secrets import SealBroken, hash_token
from clawhaven.metering import NO_OWN_KEY, Grant, PlanMode
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.upstream import Dialect
from clawhaven.proxy import answers
from clawhaven.proxy.answering import Answer, AnswerCut
from clawhaven.proxy.answers import Reply
from clawhaven.proxy.counter import CountingFailed, Counts
from clawhaven.proxy.desk import Desk, ProxyContext
from clawhaven.proxy.exchange import PASSED_BACK, Exchange, Receive, Send
from clawhaven.proxy.metrics import METER
from clawhaven.proxy.refusals import own_key_refused, refusal
from clawhaven.proxy.request import BadBody, Facts, read_facts
from clawhaven.proxy.vendor import VendorClient, is_account_refusal, read_error

Scope = MutableMapping[str, Any]

CLOSE_SECONDS = 10.0
GONE = 499
"""Counted for a client that left before it was answered."""

MAX_BODY_BYTES = 32 * 1024 * 1024
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

OVERLOADED = "The model is overloaded at the moment. Please try again shortly."
log = get_logger(__name__)


def create_app(ctx: ProxyContext, counter: Counts | None = None) -> ProxyApp:
    """The proxy as a raw ASGI application with paths from `/v1/…` on. Call `close` when its server stops.

    `counter` is where calls are opened and closed; None: in a thread of this process.
    """
    return ProxyApp(ctx, counter)


class TooMuch(Exception):
    """The request body is longer than the limit."""


class ClientGone(Exception):
    """The client went away before its request was complete."""


class ProxyApp:
    """The model proxy."""

    def __init__(self, ctx: ProxyContext, counter: Counts | None = None) -> None:
        self._ctx = ctx
        self._desk = Desk(ctx, counter)
        self._vendors = VendorClient(ctx.settings)
        self._calls: set[asyncio.Task[Any]] = set()
        METER.share(ctx.settings.data_dir)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
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

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.close()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = _path(scope), scope["method"]
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if path == "/healthz" and method in ("GET", "HEAD"):
            await _reply(send, Reply(200, b'{"status":"ok"}'))
            return
        dialect = Dialect.MODELS if path == "/v1/models" else ROUTES.get(path)
        shape = dialect if dialect not in (None, Dialect.MODELS) else _guess(headers)
        if dialect is None:
            await _reply(send, answers.error(shape, 404, f"There is nothing at {path[:100]}."))
        elif method != ("GET" if dialect is Dialect.MODELS else "POST"):
            await _reply(send, answers.error(shape, 405, f"{method} is not possible here."))
        else:
            begun, first_byte, status = time.perf_counter(), None, GONE
            METER.begin()

            async def tracked(message: MutableMapping[str, Any]) -> None:
                nonlocal first_byte, status
                if first_byte is None:
                    first_byte, status = time.perf_counter() - begun, message["status"]
                await send(message)

            try:
                await self._serve(scope, receive, tracked, dialect, shape, headers)
            except (DBAPIError, CountingFailed, NotFound) as error:
                log.error("not_counted", path=path, reason=str(error)[:200])
                if first_byte is not None:
                    raise  # The server cuts the connection: an answer that could not be settled is not completed.
                await _reply(tracked, answers.error(shape, 529, OVERLOADED, retry_after=5))
            finally:
                METER.end(dialect.value, status, time.perf_counter() - begun, first_byte)

    async def _serve(
        self, scope: Scope, receive: Receive, send: Send, dialect: Dialect, shape: Dialect, headers: dict[str, str]
    ) -> None:
        try:
            grant = await self._authenticate(headers, is_exact=dialect not in _CHARGED)
        except Unauthorized as problem:
            await _reply(send, answers.error(shape, 401, problem.message, code="invalid_api_key"))
            return
        if dialect is Dialect.MODELS:
            await _reply(send, answers.models(self._desk.offered(grant)))
            return
        try:
            body = await _read(receive, headers)
            facts = read_facts(dialect, body, headers.get("traceparent", ""))
        except TooMuch:
            message = f"The request is larger than {MAX_BODY_BYTES // 1024**2} MB."
            await _reply(send, answers.error(dialect, 413, message))
        except BadBody as problem:
            await _reply(send, answers.error(dialect, 400, str(problem)))
        except ClientGone:
            return
        else:
            path = _path(scope) + (f"?{scope['query_string'].decode('latin-1')}" if scope.get("query_string") else "")
            if dialect is Dialect.ANTHROPIC_COUNT_TOKENS:
                await self._count_tokens(send, grant, facts, path, headers, body)
            else:
                await self._call(receive, send, grant, dialect, facts, path, headers, body)

    async def _authenticate(self, headers: dict[str, str], *, is_exact: bool) -> Grant:
        """`is_exact` False: a call that is charged is looked at again when it is admitted."""
        key, instance_id = _credentials(headers)
        if not key:
            raise Unauthorized("Send the instance's model key as x-api-key or bearer token.")
        find = self._desk.authenticate if is_exact else self._desk.recognise
        return await find(hash_token(key), instance_id)

    async def _call(
        self,
        receive: Receive,
        send: Send,
        grant: Grant,
        dialect: Dialect,
        facts: Facts,
        path: str,
        headers: dict[str, str],
        body: bytes,
    ) -> None:
        base_url = self._ctx.settings.base_url
        try:
            self._check_endpoint(dialect, facts.call.model)
            call = await self._desk.admit(grant, facts.ask)
        except AppError as problem:
            METER.refuse(dialect.value, problem.error_code)
            await _reply(send, refusal(problem, dialect, facts, base_url))
            return
        except BadBody as problem:
            await _reply(send, answers.error(dialect, 400, str(problem)))
            return
        exchange = Exchange(self._desk, call, dialect, facts, len(body), send, receive)
        upstream = self._desk.upstream(call.price.upstream)
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        watcher = asyncio.create_task(_watch(receive, exchange)) if facts.call.is_stream else None
        answer: Answer | None = None
        is_ended = False
        try:
            key = self._desk.vendor_key(call.own_key_sealed)
            self._calls.add(task)
            answer = await self._vendors.send(upstream, dialect, path, headers, body, key, facts.call)
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
            told = {name: value for name, value in answer.headers.items() if name in _REFUSAL_HEADERS}
            reply = Reply(answer.status, body, kind, told)
        elif call.plan_mode is PlanMode.OWN_KEY:
            label, base_url = self._desk.upstream(vendor).label, self._ctx.settings.base_url
            reply = own_key_refused(dialect, exchange.facts, label, base_url, call.instance_id)
        else:
            log.error(
                "vendor_refuses_operator",
                upstream=vendor,
                call=call.id,
                status=answer.status,
                body=body[:500].decode(errors="replace"),
            )
            reply = answers.error(dialect, 529, OVERLOADED)
        await exchange.refuse(reply, status=answer.status, error=error)

    async def _count_tokens(
        self, send: Send, grant: Grant, facts: Facts, path: str, headers: dict[str, str], body: bytes
    ) -> None:
        """Counting is free at the vendor, so it is neither reserved nor booked; the grant must be active."""
        dialect = Dialect.ANTHROPIC_COUNT_TOKENS
        try:
            self._check_endpoint(dialect, facts.call.model)
            if grant.plan_mode == PlanMode.OWN_KEY and not grant.own_key_sealed:
                raise Forbidden("This assistant has no model key yet.", code=NO_OWN_KEY, instance_id=grant.instance_id)
            upstream = self._desk.upstream(self._desk.price(grant, facts.call.model).upstream)
            key = self._desk.vendor_key(grant.own_key_sealed) if grant.plan_mode == PlanMode.OWN_KEY else ""
            if not grant.is_active:
                reply = answers.error(dialect, 429, f"{answers.USAGE_LIMIT.capitalize()}: this assistant is paused.")
            else:
                answer = await self._vendors.send(upstream, dialect, path, headers, body, key, facts.call)
                found = await read_error(answer)
                answer.close()
                is_ours = is_account_refusal(answer.status, found)
                reply = answers.error(dialect, 529, OVERLOADED) if is_ours else Reply(answer.status, found)
        except BadBody as problem:
            reply = answers.error(dialect, 400, str(problem))
        except AppError as problem:
            reply = refusal(problem, dialect, facts, self._ctx.settings.base_url)
        except (AnswerCut, ProviderError, SealBroken) as problem:
            log.warning("vendor_unusable", path=path, reason=str(problem))
            reply = answers.error(dialect, 529, OVERLOADED)
        await _reply(send, reply)

    def _check_endpoint(self, dialect: Dialect, model: str) -> None:
        """A model asked for in the dialect of a vendor that is not its own is a mistake of the request: BadBody."""
        vendor = self._desk.vendor_of(model)
        if vendor and dialect not in self._desk.upstream(vendor).dialects:
            raise BadBody(f"The model {model[:100]} is not available at this endpoint.")


async def _read(receive: Receive, headers: dict[str, str]) -> bytes:
    declared = headers.get("content-length", "0")
    if declared.isascii() and declared.isdigit() and int(declared) > MAX_BODY_BYTES:
        raise TooMuch
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise TooMuch
        if not message.get("more_body"):
            return bytes(body)


async def _watch(receive: Receive, exchange: Exchange) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    exchange.is_gone = True


async def _reply(send: Send, reply: Reply) -> None:
    headers = {"content-type": reply.content_type, "content-length": str(len(reply.body)), **reply.headers}
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": encoded})
    await send({"type": "http.response.body", "body": reply.body})


def _path(scope: Scope) -> str:
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path.removeprefix(root) if root else path


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
