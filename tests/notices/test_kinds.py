"""Every letter says what happened and leads somewhere."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from clawhaven.notices import kinds

URL = "https://x.example/y"
AT = datetime(2026, 12, 5, 14, 5, tzinfo=UTC)
LATER = AT + timedelta(days=7)
LETTERS = {
    "payment_failed": kinds.payment_failed("Brand", AT, LATER, URL),
    "suspension_near": kinds.suspension_near("Brand", 3, AT, LATER, URL),
    "deletion_near": kinds.deletion_near("Brand", "payment", 1, LATER, URL),
    "deleted": kinds.deleted("Brand", "Ada, Bo", URL),
    "recovered": kinds.recovered("Brand", URL),
    "cancel_scheduled": kinds.cancel_scheduled("Brand", AT, LATER, URL),
    "cancel_undone": kinds.cancel_undone("Brand", AT, URL),
    "trial_ending": kinds.trial_ending("Brand", AT, "$29.00", URL),
    "refund_sent": kinds.refund_sent("Brand", "$4.00", "They asked.", URL),
    "refund_returned": kinds.refund_returned("Brand", "$4.00", URL, is_plan=True, is_dispute=False),
    "bots_cut_off": kinds.bots_cut_off("Brand", ["@ada_bot (Ada)"], URL),
    "sign_in": kinds.sign_in("Brand", URL),
    "welcome": kinds.welcome("Brand", "Ada", URL),
    "ready": kinds.ready("Brand", "Ada", URL, "https://t.me/bot?start=1"),
    "instance_error": kinds.failed("Brand", "Ada", "The disk is full.", URL),
    "suspended": kinds.suspended("Brand", "Ada", "a payment is missing", URL),
    "resumed": kinds.resumed("Brand", "Ada", URL),
    "place_free": kinds.place_free("Brand", URL),
}


@pytest.mark.parametrize("kind", sorted(LETTERS))
def test_a_letter_has_its_kind_a_short_subject_and_the_way_on(kind: str) -> None:
    letter = LETTERS[kind]
    assert letter.kind == kind
    assert 5 < len(letter.subject) < 100
    assert "\n" not in letter.subject
    assert URL in letter.text


def test_details_are_there_when_there_are_any() -> None:
    assert "https://t.me/bot?start=1" in LETTERS["ready"].text
    assert "Telegram" not in kinds.ready("Brand", "Ada", URL, None).text
    assert "The disk is full." in LETTERS["instance_error"].text
    assert "$29.00 for the plan Personal." in kinds.receipt("Brand", "$29.00", "Personal").text
    assert "$29.00 for your balance." in kinds.receipt("Brand", "$29.00", "").text
    assert kinds.alert("Down", "why") == kinds.Letter("alert", "Down", "why")


@pytest.mark.parametrize("kind", ["payment_failed", "suspension_near", "cancel_scheduled"])
def test_a_letter_about_an_end_says_when_it_stops_and_when_it_is_deleted(kind: str) -> None:
    text = LETTERS[kind].text
    assert "5 December 2026, 14:05 UTC" in text
    assert "12 December 2026, 14:05 UTC" in text


@pytest.mark.parametrize("cause", ["payment", "refund", "dispute", "ended"])
def test_every_cause_has_its_words(cause: str) -> None:
    letter = kinds.suspended_for_payment("Brand", cause, LATER, URL)
    assert letter.kind == "suspended"
    assert "12 December 2026, 14:05 UTC" in letter.text
    assert URL in letter.text
    assert "one day" in kinds.deletion_near("Brand", cause, 1, LATER, URL).subject


def test_times_are_told_in_utc() -> None:
    assert kinds.moment(AT.astimezone(timezone(timedelta(hours=9)))) == "5 December 2026, 14:05 UTC"


@pytest.mark.parametrize("kind", sorted(LETTERS))
def test_customers_read_one_word_for_it(kind: str) -> None:
    letter = LETTERS[kind]
    assert "suspend" not in (letter.subject + letter.text).lower()
