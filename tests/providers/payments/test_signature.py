"""Each signature scheme against a known vector and against everything that must not pass.

The vectors: Stripe's is made with its own library and the body of its own tests, Svix's is the published one of its
documentation and libraries; Creem publishes none with a body, so its is the documented scheme worked out by hand.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from clawhaven.ports.payments import BadSignature
from clawhaven.providers.payments.signature import sign, sign_body, sign_svix, verify, verify_body, verify_svix

SECRET, TIME = "whsec_test_secret", 1_700_000_000
BODY = b'{\n  "id": "evt_test_webhook",\n  "object": "event"\n}'
DIGEST = "4f1cd7feda9826e746b7d482c4badebb657398df1099e1046364f6196a230150"
HEADER = f"t={TIME},v1={DIGEST}"
NOW = datetime.fromtimestamp(TIME, UTC)

CREEM_SECRET = "whsec_c"
CREEM_BODY = b'{"id":"evt_1","eventType":"checkout.completed","created_at":1728734325927,"object":{}}'
CREEM_HEADER = "50fd35b5ea3ef7d62ed20ec99244e2d9c78e9e0ba9fda1a36cc79570f9fd7fd8"

SVIX_SECRET, SVIX_TIME = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", 1_614_265_330
SVIX_ID, SVIX_BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}'
SVIX_HEADER = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
SVIX_NOW = datetime.fromtimestamp(SVIX_TIME, UTC)

# Text as it can arrive: header bytes are read as Latin-1, a broken client may send half a character.
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=200)
NEARLY = st.sampled_from(
    ["t=", "v1=", "v1,", ",", "=", " ", str(TIME), "é", "\ud800", "\0", "9" * 30, DIGEST, "==", "-"]
)
HEADERS = ANY_TEXT | st.lists(NEARLY, max_size=30).map("".join)
HUGE = "v1," * 2_000


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


@given(header=HEADERS)
def test_no_header_raises_anything_else(header: str) -> None:
    assume(header != HEADER)
    with pytest.raises(BadSignature):
        verify(header, BODY, [SECRET], NOW)


@given(length=st.integers(0, len(HEADER) - 1))
def test_a_truncated_header_is_refused(length: int) -> None:
    with pytest.raises(BadSignature):
        verify(HEADER[:length], BODY, [SECRET], NOW)


@given(body=st.binary(max_size=200), place=st.integers(min_value=0), bit=st.integers(0, 7))
def test_one_changed_bit_is_noticed(body: bytes, place: int, bit: int) -> None:
    header = sign(SECRET, TIME, body)
    assert verify(header, body, [SECRET], NOW) == TIME
    changed = bytearray(body or b"\0")
    changed[place % len(changed)] ^= 1 << bit
    with pytest.raises(BadSignature):
        verify(header, bytes(changed), [SECRET], NOW)


# Creem


def test_creems_known_vector() -> None:
    assert sign_body(CREEM_SECRET, CREEM_BODY) == CREEM_HEADER
    verify_body(CREEM_HEADER, CREEM_BODY, [CREEM_SECRET])


def test_one_of_creems_several_secrets_is_enough() -> None:
    verify_body(CREEM_HEADER, CREEM_BODY, ["whsec_the_next", CREEM_SECRET])
    with pytest.raises(BadSignature):
        verify_body(CREEM_HEADER, CREEM_BODY, ["whsec_the_next"])


@pytest.mark.parametrize("secrets", [[], [""]])
def test_without_a_secret_nothing_is_signed(secrets: list[str]) -> None:
    with pytest.raises(BadSignature, match="no secret"):
        verify_body(sign_body("", CREEM_BODY), CREEM_BODY, secrets)


@pytest.mark.parametrize(
    "header",
    [
        *("", CREEM_HEADER[:-1], CREEM_HEADER + "0", CREEM_HEADER.upper(), f" {CREEM_HEADER[1:]}", "0" * 64),
        *("é" * 64, "\ud800" * 64, "0" * 1_000_000, f"v1={CREEM_HEADER}"),
    ],
)
def test_what_is_not_creems_signature_is_refused(header: str) -> None:
    with pytest.raises(BadSignature):
        verify_body(header, CREEM_BODY, [CREEM_SECRET])


@pytest.mark.parametrize("body", [b"", CREEM_BODY + b" ", CREEM_BODY[:-1], CREEM_BODY.replace(b"evt_1", b"evt_2")])
def test_another_body_is_refused(body: bytes) -> None:
    with pytest.raises(BadSignature):
        verify_body(CREEM_HEADER, body, [CREEM_SECRET])


@given(header=HEADERS, body=st.binary())
def test_nothing_but_bad_signature_is_raised_for_creem(header: str, body: bytes) -> None:
    with pytest.raises(BadSignature):
        verify_body(header, body, [CREEM_SECRET])


# Svix


def test_svixs_published_vector() -> None:
    assert sign_svix(SVIX_SECRET, SVIX_ID, SVIX_TIME, SVIX_BODY) == SVIX_HEADER
    for header in (SVIX_HEADER, f"v1,{'A' * 43}= {SVIX_HEADER} v2,other"):
        assert verify_svix(SVIX_ID, str(SVIX_TIME), header, SVIX_BODY, [SVIX_SECRET], SVIX_NOW) == SVIX_TIME


def test_svix_with_several_secrets() -> None:
    secrets = ["not base64!", "whsec_", "", SVIX_SECRET]
    assert verify_svix(SVIX_ID, str(SVIX_TIME), SVIX_HEADER, SVIX_BODY, secrets, SVIX_NOW) == SVIX_TIME
    for wrong in ([], ["not base64!", "é", "whsec_"], ["whsec_" + "A" * 32]):
        with pytest.raises(BadSignature):
            verify_svix(SVIX_ID, str(SVIX_TIME), SVIX_HEADER, SVIX_BODY, wrong, SVIX_NOW)


@pytest.mark.parametrize("seconds", [-301, 301])
def test_svix_too_old_and_from_the_future(seconds: int) -> None:
    with pytest.raises(BadSignature, match="too old or from the future"):
        verify_svix(
            *(SVIX_ID, str(SVIX_TIME), SVIX_HEADER, SVIX_BODY, [SVIX_SECRET]), SVIX_NOW + timedelta(seconds=seconds)
        )


@pytest.mark.parametrize(
    ("message_id", "timestamp", "header", "body"),
    [
        ("msg_other", str(SVIX_TIME), SVIX_HEADER, SVIX_BODY),
        ("msg_é", str(SVIX_TIME), SVIX_HEADER, SVIX_BODY),
        ("m" * 5_000, str(SVIX_TIME), SVIX_HEADER, SVIX_BODY),
        (SVIX_ID, "", SVIX_HEADER, SVIX_BODY),
        (SVIX_ID, str(SVIX_TIME + 1), SVIX_HEADER, SVIX_BODY),
        (SVIX_ID, f"{SVIX_TIME}.0", SVIX_HEADER, SVIX_BODY),
        (SVIX_ID, "9" * 40, SVIX_HEADER, SVIX_BODY),
        (SVIX_ID, str(SVIX_TIME), "", SVIX_BODY),
        (SVIX_ID, str(SVIX_TIME), SVIX_HEADER[:-1], SVIX_BODY),
        (SVIX_ID, str(SVIX_TIME), SVIX_HEADER.replace("v1", "v2"), SVIX_BODY),
        (SVIX_ID, str(SVIX_TIME), "v1,é v1,\ud800 v1, v1", SVIX_BODY),
        (SVIX_ID, str(SVIX_TIME), HUGE + SVIX_HEADER, SVIX_BODY),
        (SVIX_ID, str(SVIX_TIME), SVIX_HEADER, SVIX_BODY + b" "),
    ],
)
def test_what_svix_did_not_sign_is_refused(message_id: str, timestamp: str, header: str, body: bytes) -> None:
    with pytest.raises(BadSignature):
        verify_svix(message_id, timestamp, header, body, [SVIX_SECRET], SVIX_NOW)


@given(message_id=HEADERS, timestamp=HEADERS | st.just(str(SVIX_TIME)), header=HEADERS, body=st.binary())
def test_nothing_but_bad_signature_is_raised_for_svix(
    message_id: str, timestamp: str, header: str, body: bytes
) -> None:
    with pytest.raises(BadSignature):
        verify_svix(message_id, timestamp, header, body, [SVIX_SECRET], SVIX_NOW)
