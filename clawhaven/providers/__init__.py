"""Every vendor this product can talk to, by port and name. Importing this imports no vendor.

A package outside adds one through an entry point in the group `clawhaven.<port>` (name -> "module:Class").
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoints, entry_points
from typing import Any, Final

_HERE: Final = "clawhaven.providers"

CATALOGUE: Final[dict[str, dict[str, str]]] = {
    "runtimes": {
        "process": f"{_HERE}.runtimes.process:Process",
        "docker": f"{_HERE}.runtimes.docker:Docker",
    },
    "ingress": {"direct": f"{_HERE}.ingress.direct:Direct"},
    "payments": {
        "sandbox": f"{_HERE}.payments.sandbox:Sandbox",
        "creem": f"{_HERE}.payments.creem:Creem",
        "stripe": f"{_HERE}.payments.stripe:Stripe",
    },
    "notifiers": {
        "console": f"{_HERE}.notifiers.console:Console",
        "smtp": f"{_HERE}.notifiers.smtp:Smtp",
    },
    "upstreams": {
        "sandbox": f"{_HERE}.upstreams.sandbox:Sandbox",
        "anthropic": f"{_HERE}.upstreams.anthropic:Anthropic",
        "openai": f"{_HERE}.upstreams.openai:OpenAI",
    },
    "channels": {"telegram": f"{_HERE}.channels.telegram:Telegram"},
    "skills": {
        "brave": f"{_HERE}.skills.brave:Brave",
        "elevenlabs": f"{_HERE}.skills.elevenlabs:ElevenLabs",
    },
    "gateways": {"openclaw": f"{_HERE}.gateways.openclaw:OpenClaw"},
    "models": {"proxy": f"{_HERE}.models.proxy:OwnProxy"},
    "integrations": {"google": f"{_HERE}.integrations.google:Google"},
    "pricelists": {"genai": f"{_HERE}.pricelists.genai:GenaiPrices"},
    "vaults": {"folder": f"{_HERE}.vaults.folder:Folder"},
}

EXTRAS: Final[dict[str, str]] = {"docker": "docker", "stripe": "stripe"}
"""Package a provider imports -> the extra of this product that installs it."""


def names(port: str) -> list[str]:
    """Names known for a port, built in and from entry points, sorted. ValueError for an unknown port."""
    if port not in CATALOGUE:
        raise ValueError(f"There is no port {port!r}; known: {', '.join(sorted(CATALOGUE))}.")
    return sorted({*CATALOGUE[port], *_offered(port, tuple(sys.path)).names})


@cache
def _offered(port: str, path: tuple[str, ...]) -> EntryPoints:
    """What packages on this path of modules offer for a port. To look reads the metadata of every installed package."""
    return entry_points(group=f"clawhaven.{port}")


def load(port: str, name: str) -> type[Any]:
    """The provider's class, imported now. A built-in name cannot be replaced by an entry point.

    ValueError, with a sentence for the operator, when the name is unknown or the provider's package is missing.
    """
    known = names(port)
    if name not in known:
        raise ValueError(f"There is no {port} provider {name!r}; known: {', '.join(known)}.")
    try:
        if name in CATALOGUE[port]:
            module, _, attribute = CATALOGUE[port][name].partition(":")
            found = getattr(import_module(module), attribute)
        else:
            point = _offered(port, tuple(sys.path))[name]
            found = point.load()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "clawhaven"):
            raise
        wanted = f"'clawhaven[{EXTRAS[missing]}]'" if missing in EXTRAS else missing
        raise ValueError(
            f"The {port} provider {name!r} needs the Python package {missing!r}: pip install {wanted}"
        ) from error
    if not isinstance(found, type):
        raise ValueError(f"The {port} provider {name!r} is not a class.")
    return found
