"""The plan catalogue: a TOML file, checked when it is read."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from clawhaven.core.errors import Invalid
from clawhaven.core.money import format_usd, parse_usd

INTERVALS = ("month", "quarter", "year")
ACCESS = ("included", "own_key", "metered")


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
    memory_mb: int = 0
    """0: the operator's INSTANCE_MEMORY_MB; so too for `cpus`, `runtime` and `channels` when 0 or empty."""
    cpus: float = 0
    runtime: str = ""
    channels: tuple[str, ...] = ()
    terms: str = ""

    @property
    def price(self) -> str:
        """`$29.00 / month`."""
        return f"{format_usd(self.price_micros)} / {self.interval}"


class Catalogue:
    """All plans by id. A plan that is not offered keeps its subscribers but takes no new ones."""

    def __init__(self, plans: dict[str, Plan]) -> None:
        self._plans = plans

    @classmethod
    def load(cls, text: str | None = None) -> Catalogue:
        """From TOML text, or the file shipped with the package. Raises ValueError naming plan and key."""
        source = text if text is not None else (files("clawhaven.billing") / "plans.toml").read_text()
        return cls({name: _plan(name, table) for name, table in tomllib.loads(source).items()})

    def __iter__(self) -> Iterator[Plan]:
        return iter(self._plans.values())

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


def _plan(name: str, table: dict[str, Any]) -> Plan:
    try:
        plan = Plan(
            id=name,
            name=str(table["name"]),
            price_micros=parse_usd(str(table["price"])),
            interval=str(table["interval"]),
            access=str(table["access"]),
            summary=str(table["summary"]),
            instances=int(table["instances"]),
            messages_per_hour=int(table["messages_per_hour"]),
            tokens_per_day=int(table["tokens_per_day"]),
            max_in_flight=int(table["max_in_flight"]),
            included_credit_micros=parse_usd(str(table.get("included_credit", "0"))),
            is_offered=bool(table["is_offered"]),
        )
    except KeyError as missing:
        raise ValueError(f"plan {name}: {missing} is missing") from None
    except (TypeError, ValueError, AttributeError) as wrong:
        raise ValueError(f"plan {name}: {wrong}") from None
    if plan.interval not in INTERVALS or plan.access not in ACCESS or plan.instances < 1:
        raise ValueError(f"plan {name}: interval is one of {INTERVALS}, access one of {ACCESS}, instances at least 1")
    return plan
