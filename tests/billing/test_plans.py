"""The plan catalogue."""

from __future__ import annotations

import dataclasses

import pytest

from clawhaven.billing.plans import Catalogue, allowance_of, check_channel, describe, price_offer, savings
from clawhaven.core.errors import Invalid

NEEDED = {
    "name": '"One"',
    "price": '"29"',
    "interval": '"month"',
    "access": '"included"',
    "summary": '"x"',
    "instances": "1",
    "messages_per_hour": "0",
    "tokens_per_day": "0",
    "max_in_flight": "8",
    "is_offered": "true",
}


def table(plan_id: str = "one", /, **changed: str) -> str:
    """A plan's table; an empty value leaves its key out."""
    lines = [f"{key} = {value}" for key, value in {**NEEDED, **changed}.items() if value]
    return "\n".join([f"[{plan_id}]", *lines, ""])


def test_the_shipped_catalogue() -> None:
    plans = Catalogue.load()
    assert [plan.id for plan in plans] == ["personal", "monthly", "quarterly", "yearly", "metered"]
    assert plans.offered_ids()[0] == "personal"
    assert plans.get("yearly").price == "$299.00 / year"
    assert plans.get("metered").included_credit_micros == 10_000_000
    assert plans.get("metered").instances == 3
    assert {plan.trial_days for plan in plans} == {0}
    assert {plan.credit_rolls_over for plan in plans} == {False}
    assert [plan.access for plan in plans] == ["included", "own_key", "own_key", "own_key", "metered"]
    assert all(plan.terms and "\n" not in plan.terms for plan in plans)
    for word in ("", "nobody", "Personal", "__class__"):
        with pytest.raises(Invalid, match="Plans are personal"):
            plans.get(word)


def test_a_plan_that_is_not_offered_can_be_kept_and_not_bought() -> None:
    plans = Catalogue.load(table() + table("old", is_offered="false"))
    assert plans.get("old").id == "old"
    assert "old" in plans
    assert plans.offered_ids() == ["one"]
    with pytest.raises(Invalid, match="not offered"):
        plans.offered("old")


def test_every_key_is_read() -> None:
    metered = {"access": '"metered"', "included_credit": '"10"', "credit_rolls_over": "true", "trial_days": "14"}
    more = {"memory_mb": "4096", "cpus": "1.5", "runtime": '"docker"', "channels": '["telegram"]', "terms": '"Pay."'}
    plan = Catalogue.load(table(**metered, **more)).get("one")
    assert (plan.included_credit_micros, plan.credit_rolls_over, plan.trial_days) == (10_000_000, True, 14)
    assert (plan.memory_mb, plan.cpus, plan.runtime, plan.channels) == (4096, 1.5, "docker", ("telegram",))
    assert plan.terms == "Pay."
    plain = Catalogue.load(table(price="5")).get("one")
    assert (plain.price_micros, plain.memory_mb, plain.cpus, plain.runtime, plain.channels) == (5_000_000, 0, 0, "", ())


@pytest.mark.parametrize("key", sorted(NEEDED))
def test_a_missing_key_is_named(key: str) -> None:
    with pytest.raises(ValueError, match=f"plan one: {key} is missing"):
        Catalogue.load(table(**{key: ""}))


@pytest.mark.parametrize(
    ("key", "value", "names"),
    [
        ("name", '""', "text of 1 to 60"),
        ("name", "5", "text of 1 to 60"),
        ("summary", '"' + "x" * 301 + '"', "text of 1 to 300"),
        ("price", '"-1"', "not an amount"),
        ("price", '"29.1234567"', "not an amount"),
        ("price", '"29.001"', "whole cents"),
        ("price", '"free"', "not an amount"),
        ("price", "29.5", "in quotes"),
        ("price", "true", "in quotes"),
        ("price", '"100000.01"', "at most"),
        ("interval", '"week"', "one of month, quarter, year"),
        ("interval", "[]", "one of month"),
        ("access", '"all"', "one of included, own_key, metered"),
        ("instances", "0", "from 1 to"),
        ("instances", '"1"', "whole number"),
        ("instances", "1.0", "whole number"),
        ("instances", "true", "whole number"),
        ("messages_per_hour", "-1", "from 0 to"),
        ("tokens_per_day", "1e6", "whole number"),
        ("max_in_flight", '"8"', "whole number"),
        ("is_offered", "1", "true or false"),
        ("is_offered", '"false"', "true or false"),
        ("credit_rolls_over", "0", "true or false"),
        ("credit_rolls_over", "true", "needs an included_credit"),
        ("trial_days", "-1", "from 0 to 365"),
        ("trial_days", "366", "from 0 to 365"),
        ("trial_days", "1.5", "whole number"),
        ("memory_mb", "512", "at least 1280"),
        ("memory_mb", '"2 GB"', "whole number"),
        ("cpus", "0.01", "from 0.1 to 256"),
        ("cpus", "nan", "from 0.1 to 256"),
        ("cpus", "true", "from 0.1 to 256"),
        ("runtime", '"Docker!"', "words in lower case"),
        ("runtime", '["docker"]', "words in lower case"),
        ("channels", '"telegram"', "a list"),
        ("channels", "[1]", "words in lower case"),
        ("channels", '["telegram", "telegram"]', "twice"),
        ("terms", "{}", "text of"),
        ("markup_percent", "99", "at least 100"),
        ("markup_percent", "10001", "from 0 to"),
        ("markup_percent", "1.5", "whole number"),
        ("included_credit", '"10"', "metered"),
        ("included_credit", '"1e3"', "not an amount"),
        ("prise", '"29"', "is not a key of a plan"),
    ],
)
def test_what_is_wrong_is_named_with_its_plan_and_key(key: str, value: str, names: str) -> None:
    with pytest.raises(ValueError, match=rf"^plan one: {key} .*{names}"):
        Catalogue.load(table(**{key: value}))


def test_own_key_has_no_included_credit() -> None:
    with pytest.raises(ValueError, match="plan one: included_credit is for access"):
        Catalogue.load(table(access='"own_key"', included_credit='"10"'))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", "there is no plan in it"),
        ("# nothing\n", "there is no plan in it"),
        ("price = 29\n", "price stands outside of a plan"),
        ("[one\n", "not TOML.*line 1"),
        (table() + table(), "not TOML.*one"),
        (table("One"), "plan One: its id has"),
        (table('"a b"'), "plan a b: its id has"),
        (table("a" * 41), "its id has"),
        ("[one.two]\nname = 'x'\n", "plan one: "),
    ],
)
def test_what_is_no_catalogue_is_refused(text: str, names: str) -> None:
    with pytest.raises(ValueError, match=names):
        Catalogue.load(text)


def offered(text: str) -> Catalogue:
    """The catalogue with every plan on offer."""
    return Catalogue({plan.id: dataclasses.replace(plan, is_offered=True) for plan in Catalogue.load(text or None)})


def test_savings_are_computed_from_the_prices() -> None:
    plans = offered("")
    yearly, quarterly = savings(plans.get("yearly"), plans), savings(plans.get("quarterly"), plans)
    assert yearly is not None
    assert quarterly is not None
    assert (yearly.amount_micros, yearly.percent, yearly.compared_with) == (49_000_000, 14, "monthly")
    assert (quarterly.amount_micros, quarterly.percent, quarterly.compared_with) == (12_000_000, 13, "monthly")
    for monthly in ("personal", "monthly", "metered"):
        assert savings(plans.get(monthly), plans) is None
    assert [plan.annual_micros // 1_000_000 for plan in plans] == [348, 348, 300, 299, 240]


def test_nothing_is_saved_against_a_plan_that_cannot_be_had() -> None:
    dear, cheap = table("dear", price='"30"'), table("cheap", price='"20"', is_offered="false")
    other = table("other", price='"40"', access='"own_key"')
    year = table("year", price='"300"', interval='"year"')
    plans = Catalogue.load(dear + cheap + other + year)
    found = savings(plans.get("year"), plans)
    assert found is not None
    assert (found.amount_micros, found.percent, found.compared_with) == (60_000_000, 16, "dear")
    alone = Catalogue.load(other + cheap + year)
    assert savings(alone.get("year"), alone) is None
    free = Catalogue.load(table("free", price='"0"') + year)
    assert savings(free.get("year"), free) is None
    same = Catalogue.load(table("month", price='"25"') + year)
    assert savings(same.get("year"), same) is None


def test_a_new_price_is_an_offer_to_those_who_have_another() -> None:
    plan = Catalogue.load(table(price='"35"')).get("one")
    assert price_offer(plan, 29_000_000) == 35_000_000
    assert price_offer(plan, 39_000_000) == 35_000_000
    assert price_offer(plan, 35_000_000) is None


def test_a_plan_may_name_its_channels() -> None:
    plan = Catalogue.load(table(channels='["telegram"]')).get("one")
    check_channel(plan, "telegram")
    check_channel(Catalogue.load(table()).get("one"), "whatsapp")
    with pytest.raises(Invalid, match="The plan One has these channels: telegram") as caught:
        check_channel(plan, "whatsapp")
    assert caught.value.details == {"field": "channel", "reason": "not in this plan"}


def test_a_plan_in_a_line() -> None:
    assert describe(Catalogue.load().get("personal")) == (
        "offered; $29.00 / month; model included; 1 assistant; 100 messages an hour; 1,000,000 tokens a day;"
        " $0.50 a day by itself; no trial"
    )
    more = {"trial_days": "7", "memory_mb": "4096", "cpus": "2", "runtime": '"docker"', "channels": '["telegram"]'}
    metered = {"access": '"metered"', "included_credit": '"10"', "instances": "3", "is_offered": "false"}
    metered |= {"markup_percent": "180"}
    assert describe(Catalogue.load(table(**more, **metered)).get("one")) == (
        "not offered; $29.00 / month; model metered, $10.00 of usage included; 3 assistants; any number of messages;"
        " any number of tokens; $0.50 a day by itself; 4096 MB; 2 CPUs; on docker; channels telegram;"
        " models at 180 % of list price; 7 days of trial"
    )


def test_what_an_assistant_may_cost_by_itself() -> None:
    assert allowance_of(Catalogue.load(table()).get("one")) == 500_000
    assert allowance_of(Catalogue.load(table(automatic_per_day='"2"')).get("one")) == 2_000_000
    none = Catalogue.load(table(automatic_per_day='"0"')).get("one")
    assert allowance_of(none) is None
    assert "by itself" not in describe(none)
    assert allowance_of(Catalogue.load().get("monthly")) is None, "the customer's own vendor charges for it"
