"""genai-prices: prices of models, kept by Pydantic and others, MIT. https://github.com/pydantic/genai-prices

Read from the Python package (`pip install 'clawhaven[prices]'`; its data is in it) or as published. Both have one
shape: providers, their models, each with prices that may begin on a day and rise with the prompt's length.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

import httpx2
from pydantic import Field

from clawhaven.core.settings import EnvSettings, Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.pricelist import ListedPrice, ListedRates, Listing

VENDORS = ("anthropic", "openai")
NAMES = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "audio_input": "input_audio_mtok",
    "audio_output": "output_audio_mtok",
}
KNOWN = frozenset({*NAMES.values(), "cache_write_5m_mtok"})
MOST_BYTES = 32 * 1024 * 1024
ANSWER_SECONDS = 30.0
PACKAGE_SECONDS = 60.0


class GenaiPrices:
    """Reads the list; changes nothing."""

    name = "genai"

    class Options(EnvSettings):
        """Where the list is published."""

        genai_prices_url: str = Field(
            "https://raw.githubusercontent.com/pydantic/genai-prices/refs/heads/main/prices/new_data/v2/data.json",
            description="Where `clawhaven admin prices check --latest` finds today's prices of models.",
        )

    def __init__(self, options: Options, settings: Settings) -> None:
        self._url = options.genai_prices_url

    def installed(self) -> Listing:
        """The installed package's list, read by a process of its own: importing it would keep 80 MB for good."""
        try:
            done = subprocess.run(
                [sys.executable, "-m", "clawhaven.providers.pricelists.installed"],
                capture_output=True,
                timeout=PACKAGE_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ProviderError(f"genai-prices could not be read ({type(error).__name__}).", code="no_list") from None
        if done.returncode == 3:
            raise ProviderError(
                "The Python package genai-prices is not installed: pip install 'clawhaven[prices]',"
                " or ask for what is published now with --latest.",
                permanent=True,
                code="no_list",
            )
        if done.returncode:
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no reason given"]
            raise ProviderError(f"genai-prices could not be read: {last[0][:200]}", permanent=True, code="no_list")
        found = _parse(done.stdout)
        return read_list(found["providers"], f"genai-prices {found['version']}")

    def latest(self) -> Listing:
        """The list as published at GENAI_PRICES_URL."""
        timeout = httpx2.Timeout(ANSWER_SECONDS, connect=5.0)
        body, trouble, status = bytearray(), "", 200
        try:
            with httpx2.stream("GET", self._url, timeout=timeout, follow_redirects=True) as answer:
                status = answer.status_code
                for chunk in answer.iter_bytes():
                    body += chunk
                    if len(body) > MOST_BYTES:
                        break
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            trouble = type(error).__name__
        if trouble:
            raise ProviderError(
                f"{self._url} cannot be reached ({trouble}). Without the network, compare with the installed list:"
                " leave out --latest.",
                code="list_unreachable",
            )
        if status != 200 or len(body) > MOST_BYTES:
            raise ProviderError(f"{self._url} did not answer with a list (status {status}).", code="list_unreachable")
        return read_list(_parse(bytes(body)), "genai-prices as published now")


def read_list(raw: Any, source: str) -> Listing:
    """The list in our words. Raises ProviderError for anything that is no such list."""
    providers = raw.get("providers") if isinstance(raw, dict) else raw
    if not isinstance(providers, list):
        raise _unreadable(source)
    prices: list[ListedPrice] = []
    refused: list[str] = []
    try:
        for provider in providers:
            if provider["id"] in VENDORS:
                for model in provider["models"]:
                    found = _read_model(provider["id"], model)
                    prices += found or []
                    refused += [] if found is not None else [str(model["id"])]
    except (KeyError, TypeError, AttributeError, ValueError, InvalidOperation):
        raise _unreadable(source) from None
    if not prices:
        raise _unreadable(source)
    return Listing(source, tuple(prices), tuple(refused))


def _read_model(vendor: str, model: Mapping[str, Any]) -> list[ListedPrice] | None:
    """Its prices, oldest first; none for what is not sold by the token; None where they are beyond our words."""
    said = model["prices"]
    versions = said if isinstance(said, list) else [{"prices": said}]
    found: list[ListedPrice] = []
    for version in versions:
        constraint = version.get("constraint") or {}
        if constraint and set(constraint) != {"start_date"}:
            return None  # by the time of day
        prices = version["prices"]
        if prices.get("input_mtok") is None:
            return []
        if any(key.endswith("_mtok") and key not in KNOWN for key, value in prices.items() if value is not None):
            return None  # a kind of token that we do not tell apart
        since = date.fromisoformat(constraint["start_date"]) if constraint else None
        tariffs = _tariffs(prices)
        if len(tariffs) > 2:
            return None
        over, long_rates = tariffs[1] if len(tariffs) == 2 else (None, None)
        window = model.get("context_window")
        names = tuple(_names(model["match"], model["id"]))
        found.append(ListedPrice(vendor, model["id"], tariffs[0][1], since, over, long_rates, window, names))
    return found


def _tariffs(prices: Mapping[str, Any]) -> list[tuple[int, ListedRates]]:
    """(Longer than so many tokens, rates), the first from 0 on."""
    if "cache_write_5m_mtok" in prices:
        prices = {"cache_write_mtok": prices["cache_write_5m_mtok"], **prices}
    starts = {0}
    for name in NAMES.values():
        value = prices.get(name)
        if isinstance(value, dict):
            starts |= {tier["start"] for tier in value["tiers"]}
    return [
        (start, ListedRates(**{ours: _rate(prices.get(theirs), start) for ours, theirs in NAMES.items()}))  # type: ignore[arg-type]
        for start in sorted(starts)
    ]


def _rate(value: Any, start: int) -> int | None:
    if isinstance(value, dict):
        tiers = [tier["price"] for tier in value["tiers"] if tier["start"] <= start and start > 0]
        value = tiers[-1] if tiers else value["base"]
    if value is None:
        return None
    micros = Decimal(str(value)) * 1_000_000
    if micros != int(micros) or micros < 0:
        raise ValueError(f"{value} dollars are no whole micro-dollars")
    return int(micros)


def _names(match: Mapping[str, Any], model: str) -> Iterator[str]:
    """Other names by which the vendor itself takes the model: not those with dashes for its dots."""
    clauses = match.get("or", [match])
    names = [clause["equals"] for clause in clauses if "equals" in clause]
    dashed = {name.replace(".", "-") for name in [model, *names] if "." in name}
    yield from (name for name in names if name != model and name not in dashed)


def _parse(body: bytes) -> Any:
    try:
        return json.loads(body, parse_float=Decimal)
    except (ValueError, RecursionError):
        raise _unreadable("what was found") from None


def _unreadable(source: str) -> ProviderError:
    return ProviderError(f"{source} is not a list of prices as genai-prices has them.", permanent=True, code="no_list")
