"""genai-prices: the installed package and the published list say the same, and what is no list is refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import genai_prices
import pytest
from genai_prices import data_snapshot

from clawhaven.core.settings import Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.pricelist import ListedPrice, ListedRates
from clawhaven.providers.pricelists import genai
from clawhaven.providers.pricelists.genai import GenaiPrices, read_list
from clawhaven.providers.pricelists.installed import plain

FLAT = {"input_mtok": 2, "output_mtok": 10, "cache_read_mtok": 0.2, "cache_write_mtok": 2.5, "web_searches_kcount": 10}
STEEP = {name: {"base": value, "tiers": [{"start": 200_000, "price": value * 2}]} for name, value in FLAT.items()}
RATES = ListedRates(2_000_000, 10_000_000, 200_000, 2_500_000)


class Publisher:
    """Serves one body with one status to every GET."""

    def __init__(self) -> None:
        self.status, self.body = 200, b"[]"
        publisher = self

        class Answering(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(publisher.status)
                self.send_header("content-length", str(len(publisher.body)))
                self.end_headers()
                self.wfile.write(publisher.body)

            def log_message(self, format: str, *args: Any) -> None:
                """Silent."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/data.json"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    running = Publisher()
    yield running
    running.close()


def reader(url: str = "http://127.0.0.1:1/data.json") -> GenaiPrices:
    return GenaiPrices(GenaiPrices.Options(genai_prices_url=url), Settings())


def provider(prices: Any, match: Any = None, **given: Any) -> list[dict[str, Any]]:
    model = {"id": "one", "match": match or {"equals": "one"}, "prices": prices, "context_window": 400_000, **given}
    return [{"id": "openai", "models": [model]}, {"id": "other", "models": "never looked at"}]


def prices_of(raw: Any) -> tuple[ListedPrice, ...]:
    return read_list(json.loads(json.dumps(raw)), "a list").prices


def test_the_installed_package_is_read_whole() -> None:
    found = reader().installed()
    assert found.source == f"genai-prices {genai_prices.__version__}"
    names = {price.model: price for price in found.prices}
    assert names["claude-haiku-5-5"].long_over_tokens == 100_000
    assert names["gpt-audio"].rates.audio_input == 32_000_000
    assert "gpt-5.6" in names["gpt-5.6-sol"].aliases
    assert "gpt-5-6" not in names["gpt-5.6-sol"].aliases
    assert "gpt-image-1" in found.unreadable


def test_what_is_published_reads_as_what_is_installed(publisher: Publisher) -> None:
    published = [{"id": one.id, "models": plain(one.models)} for one in data_snapshot.get_snapshot().providers]
    publisher.body = json.dumps(published).encode()
    found, installed = reader(publisher.url).latest(), reader().installed()
    assert (found.prices, found.unreadable) == (installed.prices, installed.unreadable)
    publisher.body = json.dumps({"units": {}, "providers": published}).encode()
    assert reader(publisher.url).latest().prices == installed.prices, "the next form of the published list"


def test_numbers_are_exact() -> None:
    (price,) = prices_of(provider({"input_mtok": 0.0625, "output_mtok": 0.1}))
    assert price.rates == ListedRates(62_500, 100_000)
    with pytest.raises(ProviderError):
        prices_of(provider({"input_mtok": 0.0000001}))
    with pytest.raises(ProviderError):
        prices_of(provider({"input_mtok": -1}))


def test_tiers_and_days_are_read() -> None:
    dated = [{"prices": STEEP}, {"constraint": {"start_date": "2026-03-13"}, "prices": FLAT}]
    old, new = prices_of(provider(dated))
    assert (old.since, old.rates, old.long_over_tokens) == (None, RATES, 200_000)
    assert old.long_rates == ListedRates(4_000_000, 20_000_000, 400_000, 5_000_000)
    assert (new.since, new.rates, new.long_rates) == (date(2026, 3, 13), RATES, None)
    (five_minutes,) = prices_of(provider({"input_mtok": 2, "cache_write_5m_mtok": 2.5}))
    assert five_minutes.rates.cache_write == 2_500_000


def test_prices_beyond_our_words_are_named_and_not_guessed() -> None:
    good = provider(FLAT)[0]["models"][0]
    night = {"constraint": {"start_time": "00:00:00Z", "end_time": "08:00:00Z"}, "prices": FLAT}
    tiers = [{"start": 1, "price": 1}, {"start": 2, "price": 2}]
    models = [
        good,
        {**good, "id": "at-night", "prices": [{"prices": FLAT}, night]},
        {**good, "id": "two-steps", "prices": {**FLAT, "input_mtok": {"base": 1, "tiers": tiers}}},
        {**good, "id": "thinking", "prices": {**FLAT, "output_reasoning_mtok": 3}},
        {**good, "id": "by-the-hour", "prices": {"audio_hours": 3}},
    ]
    found = read_list([{"id": "openai", "models": models}], "a list")
    assert [price.model for price in found.prices] == ["one"]
    assert found.unreadable == ("at-night", "two-steps", "thinking")


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"[]", b"[1]", b'[{"id":"openai"}]', b"[" * 100_000])
def test_what_is_no_list_is_refused(publisher: Publisher, body: bytes) -> None:
    publisher.body = body
    with pytest.raises(ProviderError, match="not a list of prices") as error:
        reader(publisher.url).latest()
    assert error.value.code == "no_list"


def test_a_list_that_cannot_be_had_is_told_with_what_else_can_be_done(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ProviderError, match=r"cannot be reached .* leave out --latest"):
        reader().latest()
    publisher.status = 404
    with pytest.raises(ProviderError, match="status 404"):
        reader(publisher.url).latest()
    publisher.status, publisher.body = 200, b" " * 5_000
    monkeypatch.setattr(genai, "MOST_BYTES", 1_000)
    with pytest.raises(ProviderError, match="did not answer with a list"):
        reader(publisher.url).latest()


def test_without_the_package_it_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "genai_prices").mkdir()
    (tmp_path / "genai_prices" / "__init__.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ProviderError, match=r"pip install 'clawhaven\[prices\]'"):
        reader().installed()
    (tmp_path / "genai_prices" / "data.py").write_text("raise ValueError('from another time')")
    with pytest.raises(ProviderError, match="from another time"):
        reader().installed()
