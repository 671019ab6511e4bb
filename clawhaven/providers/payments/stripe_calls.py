"""Calls to Stripe through its official library: pinned version, bounded time, errors as sentences without secrets.

Source: docs.stripe.com, "API versioning", "Idempotent requests", "Error handling".
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
from collections.abc import Mapping
from functools import cached_property
from itertools import islice
from operator import attrgetter
from typing import Any, Final

from clawhaven.ports.errors import ProviderError

API_VERSION: Final = "2026-10-28.endive"
"""Pinned here and in the webhook endpoint we create, whatever version the account or the library has."""

INSTALL: Final = "pip install 'clawhaven[stripe]'"
_TIMEOUT: Final = (5.0, 20.0)
_RETRIES: Final = 2
_MOST_WORDS: Final = 200
_PAGE: Final = 100


class CardRefused(ProviderError):
    """The bank said no, or wants the customer to confirm. `intent` is the payment as it is then, if there is one."""

    def __init__(self, message: str, intent: dict[str, Any] | None) -> None:
        super().__init__(message, permanent=True, code="card_declined")
        self.intent = intent


class Calls:
    """Stripe's API at `url`. The library repeats what failed on the way at most twice, with the same key."""

    def __init__(self, url: str, key: str, *, timeout: tuple[float, float] = _TIMEOUT, retries: int = _RETRIES) -> None:
        self._url, self._key, self._timeout, self._retries = url, key, timeout, retries

    def read(self, verb: str, *ids: str, noun: str, **params: Any) -> dict[str, Any]:
        """`read("invoices.retrieve", id, noun="invoice")`. ProviderError `unknown_<noun>` when there is none."""
        return self._do(verb, ids, noun, params, {}, None)  # type: ignore[no-any-return]

    def write(self, verb: str, *ids: str, noun: str, key: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Do something once per `key` and parameters. Stripe keeps the answer for at least a day.

        `key` is empty only for a DELETE: Stripe takes none there, ending what has ended is an error we know."""
        options = {"idempotency_key": key} if key else {}
        return self._do(verb, ids, noun, dict(params), options, None)  # type: ignore[no-any-return]

    def pages(self, verb: str, *ids: str, noun: str, most: int = 2_000, **params: Any) -> list[dict[str, Any]]:
        """The first `most` objects of a list (of the object `ids` names), newest first, a hundred a request."""
        return self._do(verb, ids, noun, {"limit": _PAGE, **params}, {}, most)  # type: ignore[no-any-return]

    @cached_property
    def _library(self) -> Any:
        try:
            return importlib.import_module("stripe")
        except ModuleNotFoundError:
            raise refused("not_installed", f"Stripe's library is not installed: {INSTALL}") from None

    @cached_property
    def _client(self) -> Any:
        library = self._library
        return library.StripeClient(
            self._key,
            stripe_version=API_VERSION,
            base_addresses={"api": self._url},
            http_client=library.RequestsClient(timeout=self._timeout),
            max_network_retries=self._retries,
        )

    def _do(
        self, verb: str, ids: tuple[str, ...], noun: str, params: dict[str, Any], options: Any, most: int | None
    ) -> Any:
        call = attrgetter(verb)(self._client.v1)
        trouble: Exception
        try:
            found = call(*ids, params=params, options=options)
            if most is None:
                return found.to_dict()
            return [one.to_dict() for one in islice(found.auto_paging_iter(), most)]
        except (self._library.StripeError, ValueError, AttributeError, TypeError) as error:
            trouble = self._explain(error, noun)
        raise trouble  # here, so that no exception that knows the request is chained

    def _explain(self, error: Any, noun: str) -> ProviderError:
        kinds = self._library
        if not isinstance(error, kinds.StripeError):
            return unexpected()
        status, code = error.http_status or 0, str(error.code or "")
        said = self._plain(error.user_message)
        if status in (401, 403):
            return refused("stripe_key", "Stripe refuses STRIPE_SECRET_KEY: it is wrong, revoked, or may not do this.")
        if isinstance(error, kinds.CardError):
            found = error.error
            intent = getattr(found, "payment_intent", None) if found is not None else None
            return CardRefused(f"The card was refused{said}.", intent.to_dict() if intent is not None else None)
        if isinstance(error, kinds.APIConnectionError):
            return ProviderError("Stripe cannot be reached.", code="stripe_down")
        if status == 429 or code == "lock_timeout":
            return ProviderError("Stripe asks us to wait.", code="rate_limited")
        if status == 409:
            return ProviderError("Stripe is still working on this request.", code="stripe_busy")
        if isinstance(error, kinds.IdempotencyError):
            return refused("idempotency_mismatch", "This key was used at Stripe before, for something else.")
        if status == 404 or code == "resource_missing":
            return refused(f"unknown_{noun}", f"Stripe has no such {noun}{said}.")
        if code == "resource_already_exists":
            return refused("already_exists", f"Stripe has this {noun} already.")
        if 400 <= status < 500:
            return refused("stripe_refused", f"Stripe refused the call ({status}){said}.")
        if status >= 500:
            return ProviderError(f"Stripe is in trouble ({status}).", code="stripe_down")
        return unexpected()

    def _plain(self, words: Any) -> str:
        """Stripe's own words, which may repeat what was sent: without keys and without mail addresses."""
        text = str(words or "")
        text = text.replace(self._key, "…") if self._key else text
        text = re.sub(r"\S+@\S+|\b(?:sk|rk|pk)_\S+|whsec_\S+|\S*_secret_\S*", "…", text)
        text = "".join(sign if sign.isprintable() else " " for sign in text).strip(" .")[:_MOST_WORDS]
        return f": {text}" if text else ""


def key_of(*parts: object) -> str:
    """An idempotency key of ours for Stripe: readable first word, then a digest of everything given."""
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:40]
    return f"clawhaven-{parts[0]}-{digest}"


def refused(code: str, message: str) -> ProviderError:
    """An error that the same call would meet again."""
    return ProviderError(message, permanent=True, code=code)


def unexpected() -> ProviderError:
    """An answer that Stripe's documentation does not know."""
    return ProviderError("STRIPE_API_URL did not answer as Stripe does.", code="unexpected_answer")
