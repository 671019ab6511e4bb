"""The network side: send a request to its vendor, and say in our words what the vendor's refusals mean."""

from __future__ import annotations

import asyncio
import re

from clawhaven.core.settings import Settings
from clawhaven.ports.upstream import Call, Dialect
from clawhaven.proxy.answering import Answer, AnswerCut, LocalAnswer
from clawhaven.proxy.client import UNREACHABLE, HttpClient
from clawhaven.proxy.desk import Verbs

ERROR_SECONDS = 10.0
LONGEST_CALL_SECONDS = 25 * 60.0
"""Below metering.CALL_LIFETIME, so that a call never outlives its hold while its process lives."""

WHOLE_ANSWER_PATIENCE = 8
"""An answer that is not streamed is silent until it is complete, so it may be silent so many times longer."""

_BILLING = re.compile(
    rb"credit balance is too low|exceeded your current quota"
    rb'|"(?:type|code|error_code)":\s*"(?:insufficient_quota|billing_error|billing_not_active|billing_hard_limit_reached'
    rb'|enforced_spend_limit_reached|contract_spend_limit_reached|organization_on_hold)"',
    re.IGNORECASE,
)


class VendorClient:
    """One connection pool for all vendors."""

    def __init__(self, settings: Settings) -> None:
        self._silence = float(settings.upstream_silence_seconds)
        self._http = HttpClient()

    async def send(
        self,
        upstream: Verbs,
        dialect: Dialect,
        path: str,
        headers: dict[str, str],
        body: bytes,
        key: str,
        call: Call,
    ) -> Answer:
        """The vendor's answer once its headers are there; `close` it. Raises AnswerCut (nothing came), ProviderError
        (no key)."""
        if upstream.answer is not None:
            return LocalAnswer(*await upstream.answer(dialect, path, body, call))
        request = upstream.request(dialect, path, headers, body, key, call)
        patience = self._silence * (1 if call.is_stream else WHOLE_ANSWER_PATIENCE)
        try:
            return await self._http.post(
                request.url, request.headers, request.body, silence=patience, longest=LONGEST_CALL_SECONDS
            )
        except (ValueError, OSError):
            raise AnswerCut(UNREACHABLE) from None

    async def close(self) -> None:
        """Close every connection."""
        self._http.close()


async def read_error(answer: Answer, limit: int = 65_536) -> bytes:
    """The beginning of an error's body; what could be read when it breaks off."""
    body = bytearray()
    try:
        async with asyncio.timeout(ERROR_SECONDS):
            while len(body) < limit and (chunk := await answer.read()):
                body += chunk
    except (AnswerCut, TimeoutError):
        pass
    return bytes(body[:limit])


def is_account_refusal(status: int, body: bytes) -> bool:
    """True when the vendor refuses the key or its account (not the request): nothing the instance could mend.

    Anthropic says an empty account with 400 "credit balance is too low", OpenAI with 429 `insufficient_quota`.
    """
    return status in (401, 402, 403) or (status in (400, 429) and _BILLING.search(body) is not None)
