"""A vendor at which a customer has an account that their assistant may read: consent, tokens, and tools."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Access:
    """A token for the vendor's API, good for so many seconds from now."""

    token: str = field(repr=False)
    seconds: int


@dataclass(frozen=True, slots=True)
class Consent:
    """What the vendor gave after its consent page. `scopes` are those that were granted: people untick boxes.

    `subject` is the vendor's lasting id of the account, `address` what its owner calls it.
    """

    subject: str
    address: str
    scopes: frozenset[str]
    refresh_token: str = field(repr=False)
    access: Access


@dataclass(frozen=True, slots=True)
class Tool:
    """Something an assistant can do with the vendor's data. `parameters` is a JSON schema; it only ever reads."""

    name: str
    title: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the account that is asked for, by the scope that opens it: `Gmail`, `Google Calendar`."""

    scope: str
    label: str


class Integration(Protocol):
    """A vendor, seen from us: the customer's consent and what can be read with it."""

    name: str
    label: str
    is_ready: bool
    """False: the operator has not switched it on; `missing` says what to set."""
    missing: str
    parts: tuple[Part, ...]
    consent_origin: str
    """Where the consent page is: a form of ours ends there."""

    def consent_url(self, state: str, challenge: str, return_url: str) -> str:
        """Where the customer gives their consent. `challenge`: PKCE, S256. Pure."""

    def complete(self, code: str, verifier: str, return_url: str) -> Consent:
        """Exchange the code of a customer who came back.

        ProviderError: permanent `consent_refused` (the code is used up, false or too old) or `misconfigured` (the
        vendor does not know us); transient `vendor_down`.
        """

    def refresh(self, refresh_token: str) -> Access:
        """A new access token. ProviderError: permanent `access_revoked` (the customer must connect again) or
        `misconfigured`; transient `vendor_down`."""

    def revoke(self, token: str) -> None:
        """Make the vendor forget a token and what was granted with it; gone is success.

        Raises ProviderError `vendor_down`, `revocation_refused` (permanent).
        """

    def tools(self, scopes: Collection[str]) -> Sequence[Tool]:
        """What can be done with these scopes. Pure."""

    def use(self, tool: str, arguments: Mapping[str, Any], access_token: str) -> str:
        """Do it; the answer as text for a model, of bounded length.

        ProviderError: permanent `bad_arguments`, `not_found`, `not_granted`, `token_refused` (refresh it),
        `misconfigured`; transient `rate_limited`, `vendor_down`. Messages are for the model and its owner.
        """
