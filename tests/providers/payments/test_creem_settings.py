"""What is wrong with Creem's settings, a sentence each."""

from __future__ import annotations

from typing import Any

import pytest

from clawhaven.core.settings import Settings
from clawhaven.providers.payments import creem_settings

GOOD = {
    "key": "creem_test_abc",
    "secrets": "whsec_a, whsec_b",
    "url": "",
    "origins": "",
    "topup_product": "prod_1",
    "plan_products": "personal=prod_2",
}


def found(settings: dict[str, Any] | None = None, **more: str) -> list[str]:
    """The problems with these settings."""
    product = Settings(_env_file=None, **({"payments": "creem"} | (settings or {})))
    return list(creem_settings.problems(product, **(GOOD | more)))


def test_nothing_is_wrong() -> None:
    assert found() == []
    assert found(key="creem_old_test_key", url="https://test-api.creem.io") == []
    assert found(url="http://127.0.0.1:4000", origins="https://pay.example.com") == []
    assert found({"environment": "production", "payments": "creem"}, key="creem_abc") == []


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"key": ""}, "CREEM_API_KEY is missing"),
        ({"key": "sk_test_abc"}, "CREEM_API_KEY is malformed"),
        ({"key": "creem_abc"}, "CREEM_API_KEY is a live key"),
        ({"secrets": " , "}, "CREEM_WEBHOOK_SECRET is missing"),
        ({"secrets": "whsec_a whsec_b"}, "CREEM_WEBHOOK_SECRET is malformed"),
        ({"url": "http://api.creem.io"}, "CREEM_API_URL must be"),
        ({"url": "api.creem.io"}, "CREEM_API_URL must be"),
        ({"url": "https://api.creem.io/"}, "the one for live keys"),
        ({"origins": "https://pay.example.com/x"}, "CREEM_CHECKOUT_ORIGINS"),
        ({"topup_product": ""}, "CREEM_TOPUP_PRODUCT is missing"),
        ({"topup_product": "1 dollar"}, "CREEM_TOPUP_PRODUCT is malformed"),
        ({"plan_products": ""}, "CREEM_PRODUCTS is missing"),
        ({"plan_products": "personal"}, "'personal' is not of the form"),
        ({"plan_products": "personal=29"}, "'personal=29' is not of the form"),
        ({"plan_products": "personal=prod_1, monthly=prod_1"}, "prod_1 is there twice"),
    ],
)
def test_each_is_one_sentence_that_names_the_setting(more: dict[str, str], words: str) -> None:
    (problem,) = found(**more)
    assert words in problem
    assert "CREEM_" in problem
    assert problem.endswith((".", ")."))
    assert "whsec" not in problem


def test_production_needs_a_live_key() -> None:
    (by_its_address,) = found({"environment": "production"}, key="creem_abc", url="https://test-api.creem.io")
    (problem,) = found({"environment": "production"})
    assert "test mode" in problem
    assert problem == by_its_address
    assert "creem_test_abc" not in problem


def test_only_the_seller_needs_products() -> None:
    none = {"topup_product": "", "plan_products": ""}
    assert found({"payments": "stripe,creem"}, **none) == []
    assert len(found({"payments": "creem,stripe"}, **none)) == 2
    assert len(found({"payments": "stripe,creem", "topups_by": "creem"}, **none)) == 1
    assert len(found({"payments": "creem,stripe", "subscriptions_by": "stripe"}, **none)) == 1


def test_the_address_goes_with_the_key() -> None:
    assert creem_settings.address("", "creem_test_a") == "https://test-api.creem.io"
    assert creem_settings.address("", "creem_a") == "https://api.creem.io"
    assert creem_settings.address("http://127.0.0.1:1/", "creem_a") == "http://127.0.0.1:1"


def test_a_plan_may_have_older_products() -> None:
    assert creem_settings.products(" personal = prod_new,personal=prod_old ,") == [
        ("personal", "prod_new"),
        ("personal", "prod_old"),
    ]


@pytest.mark.parametrize(
    ("settings", "plan_products", "words"),
    [
        ({}, "personal=prod_1, yearly=prod_2, personal=prod_3", []),
        ({}, "personal=prod_1", ["no product for the plan yearly"]),
        ({}, "old=prod_1, personal=prod_2, yearly=prod_3", []),
        (
            {},
            "gold=prod_1, personal=prod_2, yearly=prod_3, gold=prod_4",
            ["the plan gold; there is personal, yearly, old"],
        ),
        ({"payments": "stripe,creem"}, "gold=prod_1", ["the plan gold"]),
        ({"subscriptions_by": "stripe"}, "personal=prod_1", []),
        ({}, "", []),
        ({}, "personal", []),
    ],
)
def test_products_are_compared_with_the_catalogue(
    settings: dict[str, Any], plan_products: str, words: list[str]
) -> None:
    product = Settings(_env_file=None, **({"payments": "creem"} | settings))
    terms = {"sold": ["personal", "yearly"], "known": ["personal", "yearly", "old"]}
    told = list(creem_settings.plan_problems(product, plan_products, **terms))
    assert len(told) == len(words)
    assert all(
        word in problem and problem.startswith("CREEM_PRODUCTS") for word, problem in zip(words, told, strict=True)
    )
