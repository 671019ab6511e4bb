"""Letters about the balance say what happened, what to do, and where."""

from __future__ import annotations

import pytest

from clawhaven.notices import wallet
from clawhaven.notices.kinds import Letter

URL = "https://haven.example/topup"

LETTERS = [
    wallet.low("Haven", "$12.00", "$10.00", URL),
    wallet.depleted("Haven", "$10.00", "$10.00", 60, URL),
    wallet.auto_failed("Haven", "$20.00", "The payment method was declined.", URL),
    wallet.auto_confirm("Haven", "$20.00", URL),
    wallet.auto_link("Haven", "$20.00", "$12.00", "https://vendor.example/pay", URL),
]


@pytest.mark.parametrize("letter", LETTERS, ids=lambda letter: letter.kind)
def test_every_letter_has_its_link_amount_and_brand(letter: Letter) -> None:
    assert f"\n{URL}\n" in letter.text
    assert "$" in letter.text
    assert letter.text.endswith("Haven\n")
    assert letter.subject


def test_it_says_when_they_stop() -> None:
    assert "They are paused in 60 minutes." in LETTERS[1].text
    assert "They are paused now." in wallet.first_topup("Haven", "$0.00", "$10.00", 0, URL).text
    apart = wallet.without_disputed("$12.00", "$5.00")
    assert "$12.00 (without $5.00 that is set aside" in wallet.restored("Haven", apart).text


def test_the_good_news_needs_no_link() -> None:
    assert "$30.00" in wallet.restored("Haven", "$30.00").text


def test_the_failed_charge_is_promised_not_to_be_repeated() -> None:
    assert "will not try again" in LETTERS[2].text
    assert "https://vendor.example/pay" in LETTERS[4].text
