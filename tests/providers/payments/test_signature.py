"""The signature scheme against a published vector and against everything that must not pass."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawhaven.ports.payments import BadSignature
from clawhaven.providers.payments.signature import sign, verify

# Made with Stripe's own SDK and the body of its own tests.
SECRET, TIME = "whsec_test_secret", 1_700_000_000
BODY = b'{\n  "id": "evt_test_webhook",\n  "object": "event"\n}'
DIGEST = "4f1cd7feda9826e746b7d482c4badebb657398df1099e1046364f6196a230150"
HEADER = f"t={TIME},v1={DIGEST}"
NOW = datetime.fromtimestamp(TIME, UTC)


def test_signs_as_stripe_does() -> None:
    assert sign(SECRET, TIME, BODY) == HEADER


def test_accepts_what_stripe_signed() -> None:
    assert verify(HEADER, BODY, [SECRET], NOW) == TIME
    assert verify(f"t={TIME}, v1={'0' * 64}, v1={DIGEST}, v0=ignored", BODY, [SECRET], NOW) == TIME


def test_any_of_several_secrets_will_do() -> None:
    assert verify(HEADER, BODY, ["new", SECRET], NOW) == TIME
    with pytest.raises(BadSignature):
        verify(HEADER, BODY, ["new", "other"], NOW)


@pytest.mark.parametrize("seconds", [-300, 300])
def test_the_tolerance_is_included(seconds: int) -> None:
    assert verify(HEADER, BODY, [SECRET], NOW + timedelta(seconds=seconds)) == TIME


@pytest.mark.parametrize("seconds", [-301, 301, -86_400, 86_400])
def test_too_old_and_from_the_future(seconds: int) -> None:
    with pytest.raises(BadSignature):
        verify(HEADER, BODY, [SECRET], NOW + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    "header",
    [
        "",
        ",",
        "t",
        f"t={TIME}",
        f"v1={DIGEST}",
        f"t=,v1={DIGEST}",
        f"t=abc,v1={DIGEST}",
        f"t=-{TIME},v1={DIGEST}",
        f"t={TIME}.0,v1={DIGEST}",
        f"t={TIME},t={TIME},v1={DIGEST}",
        f"t={TIME},v1=",
        f"t={TIME},v0={DIGEST}",
        f"t={TIME},v1={DIGEST.upper()}",
        f"t={TIME},v1={DIGEST}é",
        f"t=\N{ARABIC-INDIC DIGIT ONE},v1={DIGEST}",
        f"t={'9' * 400},v1={DIGEST}",
        f"t={TIME},v1={DIGEST}" + ",v0=x" * 2000,
        f"t={TIME + 1},v1={DIGEST}",
    ],
)
def test_malformed_headers_are_bad_signatures(header: str) -> None:
    with pytest.raises(BadSignature):
        verify(header, BODY, [SECRET], NOW)


@pytest.mark.parametrize("secrets", [[], [""]])
def test_no_secret_never_passes(secrets: list[str]) -> None:
    with pytest.raises(BadSignature):
        verify(sign("", TIME, BODY), BODY, secrets, NOW)


@given(header=st.text(max_size=200))
def test_no_header_raises_anything_else(header: str) -> None:
    with pytest.raises(BadSignature):
        verify(header, BODY, [SECRET], NOW)


@given(body=st.binary(max_size=200), place=st.integers(min_value=0), bit=st.integers(0, 7))
def test_one_changed_bit_is_noticed(body: bytes, place: int, bit: int) -> None:
    header = sign(SECRET, TIME, body)
    assert verify(header, body, [SECRET], NOW) == TIME
    changed = bytearray(body or b"\0")
    changed[place % len(changed)] ^= 1 << bit
    with pytest.raises(BadSignature):
        verify(header, bytes(changed), [SECRET], NOW)
