"""The plan catalogue: a TOML file, checked when it is read."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from clawhaven.core.errors import Invalid
from clawhaven.core.money import MICROS_PER_CENT, MICROS_PER_DOLLAR, format_usd, parse_usd

MONTHS = {"month": 1, "quarter": 3, "year": 12}
INTERVALS = tuple(MONTHS)
ACCESS = ("included", "own_key", "metered")
ACCESS_WORDS = {"included": "model included", "own_key": "own model key", "metered": "model metered"}
MOST_MICROS = 100_000 * MICROS_PER_DOLLAR
LEAST_MEMORY_MB = 1280
"""Below this a gateway dies (see INSTANCE_MEMORY_MB)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One plan. A limit of 0 means none. Amounts in micro-dollars per `interval`."""

    id: str
    name: str
    price_micros: int
    interval: str
    access: str
    summary: str
    instances: int
    messages_per_hour: int
    tokens_per_day: int
    max_in_flight: int
    included_credit_micros: int
    is_offered: bool
    credit_rolls_over: bool = False
    """False: what is left of a period's credit ends with the period."""
    trial_days: int = 0
    automatic_per_day_micros: int = 500_000
    """What automatic calls (heartbeat, cron) of an assistant may cost a day, at the customer's prices; 0: no limit."""
    memory_mb: int = 0
    """0: the operator's INSTANCE_MEMORY_MB; so too for `cpus`, `runtime` and `channels` when 0 or empty."""
    cpus: float = 0
    runtime: str = ""
    channels: tuple[str, ...] = ()
    terms: str = ""
    markup_percent: int = 0
    """What a model call costs the customer, as per cent of the list price; 0: the operator's MODEL_MARKUP_PERCENT."""

    @property
    def price(self) -> str:
        """`$29.00 / month`."""
        return f"{format_usd(self.price_micros)} / {self.interval}"

    @property
    def annual_micros(self) -> int:
        """What a year of it costs."""
        return self.price_micros * (12 // MONTHS[self.interval])


@dataclass(frozen=True, slots=True)
class Savings:
    """What paying for a longer time saves in that time. `percent` is rounded down: never more than it is."""

    amount_micros: int
    percent: int
    compared_with: str
    """Id of the monthly plan."""


class Catalogue:
    """All plans by id. A plan that is not offered keeps its subscribers but takes no new ones."""

    def __init__(self, plans: dict[str, Plan]) -> None:
        self._plans = plans

    @classmethod
    def load(cls, text: str | None = None) -> Catalogue:
        """From TOML text, or the file shipped with the package. Raises ValueError naming plan and key."""
        source = text if text is not None else (files("clawhaven.billing") / "plans.toml").read_text()
        try:
            tables = tomllib.loads(source)
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"this is not TOML: {error}") from None
        if not tables:
            raise ValueError("there is no plan in it; a plan begins with a line like [personal]")
        return cls({name: _Reading(name, table).plan() for name, table in tables.items()})

    def __iter__(self) -> Iterator[Plan]:
        return iter(self._plans.values())

    def __contains__(self, plan_id: str) -> bool:
        return plan_id in self._plans

    def get(self, plan_id: str) -> Plan:
        """A plan that exists, offered or not. Raises Invalid naming the known ones."""
        plan = self._plans.get(plan_id)
        if plan is None:
            raise Invalid(f"Plans are {', '.join(self.offered_ids())}.", field="plan", reason="unknown plan")
        return plan

    def offered(self, plan_id: str) -> Plan:
        """A plan that takes new customers. Raises Invalid otherwise."""
        plan = self.get(plan_id)
        if not plan.is_offered:
            raise Invalid(
                f"The plan {plan.name} is not offered here. Plans are {', '.join(self.offered_ids())}.",
                field="plan",
                reason="not offered",
            )
        return plan

    def offered_ids(self) -> list[str]:
        """Ids of the plans a new customer can choose, cheapest catalogue order kept."""
        return [plan.id for plan in self if plan.is_offered]


def savings(plan: Plan, catalogue: Catalogue) -> Savings | None:
    """What `plan` saves over the cheapest monthly plan on offer with the same model access, paid for as long.

    None for a monthly plan, without such a plan to compare with, and when nothing is saved.
    """
    months = MONTHS[plan.interval]
    monthly = [one for one in catalogue if one.is_offered and one.interval == "month" and one.access == plan.access]
    if months == 1 or not monthly:
        return None
    cheapest = min(monthly, key=lambda one: one.price_micros)
    full = cheapest.price_micros * months
    saved = full - plan.price_micros
    return Savings(saved, 100 * saved // full, cheapest.id) if saved > 0 else None


def price_offer(plan: Plan, subscription_amount_micros: int) -> int | None:
    """The catalogue's price where it is another than the one a subscription is kept at; None when they agree.

    A subscriber stays on the price they bought or last accepted, until they accept this one.
    """
    return plan.price_micros if plan.price_micros != subscription_amount_micros else None


def check_channel(plan: Plan, channel: str) -> None:
    """Raises Invalid when the plan names its channels and this is none of them."""
    if plan.channels and channel not in plan.channels:
        raise Invalid(
            f"The plan {plan.name} has these channels: {', '.join(plan.channels)}.",
            field="channel",
            reason="not in this plan",
        )


def describe(plan: Plan) -> str:
    """Price, model access, limits, trial and whether it is offered, in one line for the operator."""
    own = [
        f"{plan.memory_mb} MB" if plan.memory_mb else "",
        f"{plan.cpus:g} CPUs" if plan.cpus else "",
        f"on {plan.runtime}" if plan.runtime else "",
        f"channels {', '.join(plan.channels)}" if plan.channels else "",
        f"models at {plan.markup_percent} % of list price" if plan.markup_percent else "",
    ]
    credit = format_usd(plan.included_credit_micros)
    facts = [
        "offered" if plan.is_offered else "not offered",
        plan.price,
        ACCESS_WORDS[plan.access] + (f", {credit} of usage included" if plan.included_credit_micros else ""),
        f"{plan.instances} assistant{'s' if plan.instances > 1 else ''}",
        f"{plan.messages_per_hour:,} messages an hour" if plan.messages_per_hour else "any number of messages",
        f"{plan.tokens_per_day:,} tokens a day" if plan.tokens_per_day else "any number of tokens",
        *([f"{format_usd(plan.automatic_per_day_micros)} a day by itself"] if allowance_of(plan) else []),
        *(fact for fact in own if fact),
        f"{plan.trial_days} days of trial" if plan.trial_days else "no trial",
    ]
    return "; ".join(facts)


def allowance_of(plan: Plan) -> int | None:
    """What an assistant's automatic calls may cost a day; None: no limit, as where the vendor charges the customer."""
    return (plan.automatic_per_day_micros or None) if plan.access != "own_key" else None


class _Reading:
    """One plan's table while it is read: every key is asked for once, and what is left over is a mistake."""

    def __init__(self, name: str, table: Any) -> None:
        self._name = name
        if not isinstance(table, dict):
            raise ValueError(f"{name} stands outside of a plan; a plan begins with a line like [personal]")
        self._left: dict[str, Any] = dict(table)
        if not re.fullmatch(r"[a-z0-9_-]{1,40}", name):
            raise self._wrong("its id", "has 1 to 40 of a-z, 0-9, _ and -")

    def plan(self) -> Plan:
        """The whole plan. Raises ValueError naming plan and key."""
        plan = Plan(
            id=self._name,
            name=self._text("name", 60),
            price_micros=self._amount("price"),
            interval=self._one_of("interval", INTERVALS),
            access=self._one_of("access", ACCESS),
            summary=self._text("summary", 300),
            instances=self._whole("instances", 1, 1000),
            messages_per_hour=self._whole("messages_per_hour", 0, 1_000_000),
            tokens_per_day=self._whole("tokens_per_day", 0, 10**12),
            max_in_flight=self._whole("max_in_flight", 0, 1000),
            included_credit_micros=self._amount("included_credit", "0"),
            is_offered=self._flag("is_offered"),
            credit_rolls_over=self._flag("credit_rolls_over", False),
            trial_days=self._whole("trial_days", 0, 365, 0),
            automatic_per_day_micros=self._amount("automatic_per_day", "0.50"),
            memory_mb=self._memory(),
            cpus=self._cpus(),
            runtime=self._runtime(),
            channels=self._words("channels"),
            terms=self._text("terms", 2000, ""),
            markup_percent=self._markup(),
        )
        if self._left:
            raise self._wrong(next(iter(self._left)), "is not a key of a plan")
        if plan.included_credit_micros and plan.access != "metered":
            raise self._wrong("included_credit", 'is for access = "metered": nothing else is paid from the wallet')
        if plan.credit_rolls_over and not plan.included_credit_micros:
            raise self._wrong("credit_rolls_over", "needs an included_credit")
        return plan

    def _wrong(self, key: str, why: str) -> ValueError:
        return ValueError(f"plan {self._name}: {key} {why}")

    def _take(self, key: str, default: Any = None) -> Any:
        value = self._left.pop(key, default)
        if value is None:
            raise self._wrong(key, "is missing")
        return value

    def _text(self, key: str, most: int, default: str | None = None) -> str:
        value = self._take(key, default)
        if not isinstance(value, str) or len(value.strip()) > most or (default is None and not value.strip()):
            raise self._wrong(key, f"is text of 1 to {most} characters in quotes")
        return value.strip()

    def _amount(self, key: str, default: str | None = None) -> int:
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise self._wrong(key, 'is an amount in US dollars in quotes, like "29.50"')
        try:
            micros = parse_usd(str(value))
        except ValueError as error:
            raise self._wrong(key, f"is {error}") from None
        if micros % MICROS_PER_CENT:
            raise self._wrong(key, "is in whole cents: no vendor charges less")
        if micros > MOST_MICROS:
            raise self._wrong(key, f"is at most {format_usd(MOST_MICROS)}")
        return micros

    def _one_of(self, key: str, known: Iterable[str]) -> str:
        value = self._take(key)
        if value not in tuple(known):
            raise self._wrong(key, f"is one of {', '.join(known)}")
        return str(value)

    def _whole(self, key: str, least: int, most: int, default: int | None = None) -> int:
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self._wrong(key, f"is a whole number from {least} to {most}")
        return value

    def _flag(self, key: str, default: bool | None = None) -> bool:
        value = self._take(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, "is true or false")
        return value

    def _memory(self) -> int:
        value = self._whole("memory_mb", 0, 1_048_576, 0)
        if 0 < value < LEAST_MEMORY_MB:
            raise self._wrong("memory_mb", f"is at least {LEAST_MEMORY_MB}, below that it dies; 0: INSTANCE_MEMORY_MB")
        return value

    def _markup(self) -> int:
        value = self._whole("markup_percent", 0, 10_000, 0)
        if 0 < value < 100:
            raise self._wrong("markup_percent", "is at least 100, which is the list price; 0: MODEL_MARKUP_PERCENT")
        return value

    def _cpus(self) -> float:
        value = self._take("cpus", 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not (value == 0 or 0.1 <= value <= 256):
            raise self._wrong("cpus", "is a number from 0.1 to 256; 0: INSTANCE_CPUS")
        return value

    def _runtime(self) -> str:
        value = self._take("runtime", "")
        return self._word("runtime", value) if value != "" else ""

    def _word(self, key: str, value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9_-]{1,40}", value):
            raise self._wrong(key, "names providers: words in lower case and in quotes")
        return value

    def _words(self, key: str) -> tuple[str, ...]:
        value = self._take(key, [])
        if not isinstance(value, list):
            raise self._wrong(key, 'is a list like ["telegram"]')
        words = tuple(self._word(key, word) for word in value)
        if len(set(words)) < len(words):
            raise self._wrong(key, "names one of them twice")
        return words
