"""Seeing what a customer sees: which pages an operator's look reaches, and that it changes nothing.

A page is shown only when it is in the list here: one that holds a link or a code which is worth something (a bot's
claim link, a download of everything), or what a person and an assistant said to each other, is the customer's alone.
"""

from __future__ import annotations

import re

from clawhaven.core.errors import Conflict

OWN = re.compile(
    r"/|/(admin|sign-out|sign-in|appearance|static|brand|pricing|docs|status|terms|privacy|imprint|favicon)\b.*"
)
"""Addresses at which an operator stays who they are: their own pages, and those for everybody."""

SHOWN = re.compile(
    r"/dashboard|/usage|/usage/live|/ledger|/billing|/topup"
    r"|/settings|/settings/sessions|/settings/keys|/settings/data|/settings/integrations"
    r"|/instances/[a-z0-9_]{1,40}(/(usage|history|integrations|configuration|spending|events))?"
)
SAFE = ("GET", "HEAD")


def is_own(path: str) -> bool:
    """True for an address at which somebody who looks at another's pages is themselves."""
    return OWN.fullmatch(path) is not None


def refuse_beyond(method: str, path: str) -> None:
    """Raises Conflict for whatever is not looking, and for pages that only their owner may see."""
    if method not in SAFE:
        raise Conflict("You are looking at a customer's pages: nothing can be changed here.", code="view_only")
    if not SHOWN.fullmatch(path):
        raise Conflict("This page is the customer's alone: it may hold private links or words.", code="view_only")
