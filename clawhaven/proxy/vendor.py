"""The network side: send a request to its vendor, and say in our words what the vendor's refusals mean."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import aiohttp

from clawhaven.core.settings import Settings
from clawhaven.ports.upstream import Call, Dialect, LocalUpstream, OutRequest, Upstream
from clawhaven.proxy.exchange import Answer, AnswerCut

CONNECT_SECONDS = 10.0
LONGEST_CALL_SECONDS = 25 * 60.0
"""Below metering.CALL_LIFETIME, so that a call never outlives its hold while its process lives."""

WHOLE_ANSWER_PATIENCE = 8
"""An answer that is not streamed is silent until it is complete, so it may be silent so many times longer."""

_BILLING = re.compile(
    rb"credit balance is too low|insufficient_quota|billing|exceeded your current quota", re.IGNORECASE
)


class VendorClient:
    """One connection pool for all vendors."""

    def __init__(self, settings: Settings) -> None:
        self._silence = float(settings.upstream_silence_seconds)
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def send(
        self,
        upstream: Upstream,
        dialect: Dialect,
        path: str,
        headers: dict[str, str],
        body: bytes,
        key: str,
        call: Call,
    ) -> AsyncIterator[Answer]:
        """The vendor's answer once its headers are there. Raises AnswerCut (nothing came), ProviderError (no key)."""
        if hasattr(upstream, "answer"):
            status, own, chunks = await cast(LocalUpstream, upstream).answer(dialect, path, body, call)
            yield Answer(status, own, chunks)
            return
        request = upstream.request(dialect, path, headers, body, key, call)
        patience = self._silence * (1 if call.is_stream else WHOLE_ANSWER_PATIENCE)
        limits = aiohttp.ClientTimeout(total=LONGEST_CALL_SECONDS, sock_connect=CONNECT_SECONDS, sock_read=patience)
        try:
            response = await self._open(request, limits)
        except TimeoutError:
            raise AnswerCut("The model did not answer in time.", 504) from None
        except (aiohttp.ClientError, OSError):
            raise AnswerCut("The model cannot be reached at the moment.") from None
        try:
            found = {name.lower(): value for name, value in response.headers.items()}
            yield Answer(response.status, found, _chunks(response))
        finally:
            # Closing instead of releasing: an answer that was not read to its end must not stay on the connection.
            if response.content.at_eof():
                response.release()
            else:
                response.close()

    async def _open(self, request: OutRequest, limits: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=60),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=("User-Agent",),
            )
        return await self._session.post(
            request.url, data=request.body, headers=dict(request.headers), timeout=limits, allow_redirects=False
        )

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _chunks(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    try:
        async for chunk in response.content.iter_any():
            yield chunk
    except TimeoutError:
        raise AnswerCut("The model fell silent.", 504) from None
    except (aiohttp.ClientError, OSError):
        raise AnswerCut("The model's answer broke off.") from None


async def read_error(answer: Answer, limit: int = 65_536) -> bytes:
    """The beginning of an error's body; what could be read when it breaks off."""
    body = bytearray()
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            async for chunk in answer.chunks:
                body += chunk
                if len(body) >= limit:
                    break
    except (AnswerCut, TimeoutError):
        pass
    return bytes(body[:limit])


def is_account_refusal(status: int, body: bytes) -> bool:
    """True when the vendor refuses the key or its account (not the request): nothing the instance could mend.

    Anthropic says an empty account with 400 "credit balance is too low", OpenAI with 429 `insufficient_quota`.
    """
    return status in (401, 402, 403) or (status in (400, 429) and _BILLING.search(body) is not None)
