"""Every letter says what happened and leads somewhere."""

from __future__ import annotations

import pytest

from clawhaven.notices import kinds

URL = "https://x.example/y"
LETTERS = {
    "sign_in": kinds.sign_in("Brand", URL),
    "welcome": kinds.welcome("Brand", "Ada", URL),
    "ready": kinds.ready("Brand", "Ada", URL, "https://t.me/bot?start=1"),
    "instance_error": kinds.failed("Brand", "Ada", "The disk is full.", URL),
    "suspended": kinds.suspended("Brand", "Ada", "payment", URL),
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
    assert "$29.00" in kinds.receipt("Brand", "$29.00", "Personal").text
    assert kinds.alert("Down", "why") == kinds.Letter("alert", "Down", "why")
