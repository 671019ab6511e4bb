"""The plan catalogue."""

from __future__ import annotations

import pytest

from clawhaven.billing.plans import Catalogue
from clawhaven.core.errors import Invalid

PLAN = """
[one]
name = "One"
price = "{price}"
interval = "{interval}"
access = "{access}"
summary = "x"
instances = {instances}
messages_per_hour = 0
tokens_per_day = 0
max_in_flight = 8
is_offered = true
"""
GOOD = {"price": "29", "interval": "month", "access": "included", "instances": "1"}


def test_the_shipped_catalogue() -> None:
    plans = Catalogue.load()
    assert [plan.id for plan in plans] == ["personal", "monthly", "quarterly", "yearly", "metered"]
    assert plans.offered_ids() == ["personal"]
    assert plans.get("yearly").price == "$299.00 / year"
    assert plans.get("metered").included_credit_micros == 10_000_000
    with pytest.raises(Invalid, match="not offered"):
        plans.offered("yearly")
    for word in ("", "nobody", "Personal", "__class__"):
        with pytest.raises(Invalid, match="Plans are personal"):
            plans.get(word)


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        ({"price": "-1"}, "not an amount"),
        ({"price": "29.1234567"}, "not an amount"),
        ({"price": "free"}, "not an amount"),
        ({"interval": "week"}, "interval"),
        ({"access": "all"}, "access"),
        ({"instances": "0"}, "instances"),
    ],
)
def test_a_wrong_plan_is_named(wrong: dict[str, str], names: str) -> None:
    assert Catalogue.load(PLAN.format(**GOOD)).get("one").price_micros == 29_000_000
    with pytest.raises(ValueError, match=rf"(?s)plan one.*{names}"):
        Catalogue.load(PLAN.format(**{**GOOD, **wrong}))


@pytest.mark.parametrize("key", ["name", "price", "interval", "access", "summary", "instances", "is_offered"])
def test_a_missing_key_is_named(key: str) -> None:
    text = "\n".join(line for line in PLAN.format(**GOOD).splitlines() if not line.startswith(key))
    with pytest.raises(ValueError, match=f"plan one: '{key}' is missing"):
        Catalogue.load(text)
