"""Creem's signature: the known vector passes, everything else is BadSignature and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawhaven.ports.payments import BadSignature
from clawhaven.providers.payments.creem_signature import sign, verify

SECRET = "whsec_c"
BODY = b'{"id":"evt_1","eventType":"checkout.completed","created_at":1728734325927,"object":{}}'
GOOD = "50fd35b5ea3ef7d62ed20ec99244e2d9c78e9e0ba9fda1a36cc79570f9fd7fd8"


def test_the_known_vector() -> None:
    assert sign(SECRET, BODY) == GOOD
    verify(GOOD, BODY, [SECRET])


def test_one_of_several_secrets_is_enough() -> None:
    verify(GOOD, BODY, ["whsec_the_next", SECRET])
    with pytest.raises(BadSignature):
        verify(GOOD, BODY, ["whsec_the_next"])


@pytest.mark.parametrize("secrets", [[], [""]])
def test_without_a_secret_nothing_is_signed(secrets: list[str]) -> None:
    with pytest.raises(BadSignature, match="no secret"):
        verify(sign("", BODY), BODY, secrets)


@pytest.mark.parametrize(
    "header",
    ["", GOOD[:-1], GOOD + "0", GOOD.upper(), f" {GOOD[1:]}", "0" * 64, "é" * 64, "\ud800" * 64, "0" * 1_000_000],
)
def test_what_is_not_the_signature_is_refused(header: str) -> None:
    with pytest.raises(BadSignature):
        verify(header, BODY, [SECRET])


@pytest.mark.parametrize("body", [b"", BODY + b" ", BODY[:-1], BODY.replace(b"evt_1", b"evt_2")])
def test_another_body_is_refused(body: bytes) -> None:
    with pytest.raises(BadSignature):
        verify(GOOD, body, [SECRET])


@given(st.text(), st.binary())
def test_nothing_but_bad_signature_is_raised(header: str, body: bytes) -> None:
    with pytest.raises(BadSignature):
        verify(header, body, [SECRET])
