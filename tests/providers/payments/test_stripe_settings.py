"""What is wrong with Stripe's settings, a sentence each."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from clawhaven.core.settings import Settings
from clawhaven.providers.payments import stripe_settings

GOOD = {
    "key": "sk_test_abc",
    "secrets": "whsec_a, whsec_b",
    "url": "https://api.stripe.com",
    "origins": "",
    "prices": "personal=price_1, yearly=price_2, yearly=price_3",
}


def found(settings: dict[str, Any] | None = None, **more: str) -> list[str]:
    """The problems with these settings."""
    return list(stripe_settings.problems(Settings(_env_file=None, **(settings or {})), **(GOOD | more)))


def test_nothing_is_wrong() -> None:
    assert found() == []
    assert found(key="rk_test_abc", url="http://127.0.0.1:4000", origins="https://pay.example.com") == []
    assert found({"environment": "production"}, key="sk_live_abc") == []


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"key": ""}, "STRIPE_SECRET_KEY is missing"),
        ({"key": "pk_test_abc"}, "STRIPE_SECRET_KEY is malformed"),
        ({"key": "sk_test_"}, "STRIPE_SECRET_KEY is malformed"),
        ({"key": "sk_test_a b"}, "STRIPE_SECRET_KEY is malformed"),
        ({"key": "sk_live_abc"}, "STRIPE_SECRET_KEY is a live key"),
        ({"secrets": " , "}, "STRIPE_WEBHOOK_SECRET is missing"),
        ({"secrets": "whsec_a whsec_b"}, "STRIPE_WEBHOOK_SECRET is malformed"),
        ({"secrets": "whsec_a, secret"}, "STRIPE_WEBHOOK_SECRET is malformed"),
        ({"url": "http://api.stripe.com"}, "STRIPE_API_URL must be"),
        ({"url": "api.stripe.com"}, "STRIPE_API_URL must be"),
        ({"url": "https://[api"}, "STRIPE_API_URL must be"),
        ({"url": ""}, "STRIPE_API_URL must be"),
        ({"origins": "https://pay.example.com/x"}, "STRIPE_CHECKOUT_ORIGINS"),
        ({"origins": "http://pay.example.com"}, "STRIPE_CHECKOUT_ORIGINS"),
        ({"origins": "https://"}, "STRIPE_CHECKOUT_ORIGINS"),
        ({"origins": "https://[x"}, "STRIPE_CHECKOUT_ORIGINS"),
        ({"prices": "personal"}, "STRIPE_PRICES: 'personal' is not of the form"),
        ({"prices": "personal=prod_1"}, "STRIPE_PRICES: 'personal=prod_1' is not of the form"),
        ({"prices": "personal=price_1, monthly=price_1"}, "STRIPE_PRICES: price_1 is there twice"),
    ],
)
def test_each_is_one_sentence_that_names_the_setting(more: dict[str, str], words: str) -> None:
    (problem,) = found(**more)
    assert words in problem
    assert problem.endswith((".", ")."))
    assert not any(secret in problem for secret in ("whsec_a", "sk_test_a", "sk_live_abc", "pk_test"))


@pytest.mark.parametrize("key", ["sk_test_abc", "rk_test_abc"])
def test_a_test_key_takes_no_money_in_production(key: str) -> None:
    (problem,) = found({"environment": "production"}, key=key)
    assert problem.startswith("STRIPE_SECRET_KEY is a test key")


def test_everything_wrong_is_said_at_once() -> None:
    problems = found(key="", secrets="", url="x", origins="x", prices="x")
    names = ["STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", "STRIPE_API_URL", "STRIPE_CHECKOUT_ORIGINS", "STRIPE_PRICES"]
    assert [problem.split()[0].rstrip(":") for problem in problems] == names


def test_a_missing_library_is_a_problem_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    (problem,) = found()
    assert problem == "Stripe's library is not installed: pip install 'clawhaven[stripe]'"


def test_chosen_prices() -> None:
    assert stripe_settings.chosen_prices("") == []
    assert stripe_settings.chosen_prices(GOOD["prices"])[1:] == [("yearly", "price_2"), ("yearly", "price_3")]


def test_prices_of_plans_that_there_are_not_are_named() -> None:
    assert list(stripe_settings.plan_problems("old=price_1, personal=price_2", ["personal", "old"])) == []
    assert list(stripe_settings.plan_problems("gold", ["personal"])) == []
    told = list(stripe_settings.plan_problems("gold=price_1, gold=price_2", ["personal", "old"]))
    assert told == ["STRIPE_PRICES names the plan gold; there is personal, old."]
