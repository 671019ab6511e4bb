"""Calls to Creem: what is tried again, and how each failure is told."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest

from clawhaven.ports.errors import ProviderError
from clawhaven.providers.payments.creem_calls import Calls
from tests.fakes.creem_server import KEY, CreemServer

READ = ("/v1/products/prod_topup", {}, "product")


@pytest.fixture
def vendor() -> Iterator[CreemServer]:
    with CreemServer() as running:
        yield running


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def calls(vendor: CreemServer, waits: list[float]) -> Calls:
    return Calls(vendor.url, KEY, sleep=waits.append)


def failure(calls: Calls, verb: str = "get") -> ProviderError:
    """How a read or a write fails."""
    write = ("/v1/customers/billing", {"customer_id": "cust_1"}, "customer")
    with pytest.raises(ProviderError) as caught:
        calls.get(*READ) if verb == "get" else calls.post(*write)
    assert caught.value.__cause__ is None
    assert KEY not in repr(caught.value)
    return caught.value


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_reads_are_tried_again(calls: Calls, vendor: CreemServer, waits: list[float], status: int) -> None:
    vendor.fail(status, times=2)
    assert calls.get(*READ)["price"] == 100
    assert waits == [0.5, 1.0]


@pytest.mark.parametrize(("status", "code"), [(429, "rate_limited"), (500, "creem_down")])
def test_and_given_up(calls: Calls, vendor: CreemServer, waits: list[float], status: int, code: str) -> None:
    vendor.fail(status, times=3)
    error = failure(calls)
    assert (error.permanent, error.code) == (False, code)
    assert len(waits) == 2
    assert vendor.requests == []


def test_creem_says_how_long_to_wait(calls: Calls, vendor: CreemServer, waits: list[float]) -> None:
    vendor.fail(429, headers={"retry-after": "3"})
    vendor.fail(429, headers={"retry-after": "86400"})
    calls.get(*READ)
    assert waits == [3.0, 5.0]


@pytest.mark.parametrize("status", [429, 500])
def test_writes_are_sent_once(calls: Calls, vendor: CreemServer, waits: list[float], status: int) -> None:
    vendor.fail(status)
    assert not failure(calls, "post").permanent
    assert (waits, vendor.requests) == ([], [])


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, "creem_key"), (403, "creem_key"), (404, "unknown_product"), (400, "creem_refused"), (409, "creem_refused")],
)
def test_what_cannot_succeed_is_permanent(calls: Calls, vendor: CreemServer, status: int, code: str) -> None:
    vendor.fail(status, b"not json")
    error = failure(calls)
    assert (error.permanent, error.code) == (True, code)


def test_creems_words_are_passed_on_without_secrets(calls: Calls, vendor: CreemServer) -> None:
    said = f'{{"message": ["key {KEY}", "creem_live_x whsec_y of a@example.com\\u0000", "{"x" * 900}"]}}'
    vendor.fail(400, said.encode())
    message = failure(calls).message
    assert message.startswith("Creem refused the call (400): key …; … … of …")
    assert "example.com" not in message
    assert len(message) < 260


@pytest.mark.parametrize("content", [b"", b"<html>", b"[]", b"[" * 100_000, b"\xff"])
def test_garbage_is_another_server(calls: Calls, vendor: CreemServer, content: bytes) -> None:
    vendor.fail(200, content)
    error = failure(calls)
    assert (error.permanent, error.code) == (False, "unexpected_answer")
    assert "CREEM_API_URL" in error.message


def test_a_redirect_is_not_followed(calls: Calls, vendor: CreemServer) -> None:
    vendor.fail(302, headers={"location": f"{vendor.url}/v1/products/prod_topup"})
    assert failure(calls).code == "unexpected_answer"


def test_a_slow_answer_is_cut(vendor: CreemServer, waits: list[float]) -> None:
    calls = Calls(vendor.url, KEY, timeout=httpx2.Timeout(0.1), sleep=waits.append)
    vendor.fail(200, b"{}", seconds=0.4, times=3)
    error = failure(calls)
    assert (error.permanent, error.code) == (False, "creem_down")
    assert "ReadTimeout" in error.message


def test_nobody_there(waits: list[float]) -> None:
    calls = Calls("http://127.0.0.1:9", KEY, sleep=waits.append)
    assert failure(calls).code == "creem_down"
    assert len(waits) == 2
    assert failure(calls, "post").code == "creem_down"
    assert len(waits) == 2


@pytest.mark.parametrize("page", [b"{}", b'{"items": {}, "pagination": {}}', b'{"items": [1], "pagination": {}}'])
def test_a_list_of_another_shape(calls: Calls, vendor: CreemServer, page: bytes) -> None:
    vendor.fail(200, page)
    with pytest.raises(ProviderError) as caught:
        list(calls.pages("/v1/subscriptions/search", {}, "subscription"))
    assert caught.value.code == "unexpected_answer"


def test_the_beginning_of_a_list(calls: Calls, vendor: CreemServer) -> None:
    vendor.fail(200, b'{"items": [{}, {}], "pagination": {"next_page": 2}}', times=3)
    assert len(list(calls.pages("/v1/subscriptions/search", {}, "subscription", most=5))) == 5


def test_a_list_without_end_is_given_up(calls: Calls, vendor: CreemServer) -> None:
    vendor.fail(200, b'{"items": [{}], "pagination": {"next_page": 2}}', times=200)
    with pytest.raises(ProviderError) as caught:
        list(calls.pages("/v1/subscriptions/search", {}, "subscription"))
    assert (caught.value.permanent, caught.value.code) == (False, "too_many")
