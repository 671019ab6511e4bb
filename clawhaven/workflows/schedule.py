"""What happens by itself, and how often (cron, UTC)."""

from __future__ import annotations

from typing import Any

from clawhaven.workflows import (
    claim,
    dunning,
    health,
    letters,
    lifecycle,
    money,
    payments,
    provision,
    reconcile,
    refunds,
    spending,
    topups,
)

SCHEDULES: list[dict[str, Any]] = [
    {"name": "health", "function": health.health_sweep, "cron": "* * * * *"},
    {"name": "calls", "function": reconcile.sweep_calls, "cron": "* * * * *"},
    {"name": "reconcile", "function": reconcile.reconcile, "cron": "*/5 * * * *"},
    {"name": "wallets", "function": topups.sweep_wallets, "cron": "* * * * *"},
    {"name": "spending", "function": spending.watch_spending, "cron": "* * * * *"},
    {"name": "dunning", "function": dunning.sweep_dunning, "cron": "* * * * *"},
    {"name": "refunds", "function": refunds.sweep_refunds, "cron": "*/5 * * * *"},
    {"name": "money-watch", "function": money.watch_money, "cron": "*/5 * * * *"},
    {"name": "money", "function": money.reconcile_money, "cron": "17 3 * * *"},
]

WORKFLOWS = (
    claim,
    dunning,
    health,
    letters,
    lifecycle,
    money,
    payments,
    provision,
    reconcile,
    refunds,
    spending,
    topups,
)
"""Every module that registers workflows; importing this one registers them all."""
