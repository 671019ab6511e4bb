"""What happens by itself, and how often (cron, UTC)."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from clawhaven import workflows
from clawhaven.workflows import backup, deletion, dunning, health, money, reconcile, refunds, spending, topups

SCHEDULES: list[dict[str, Any]] = [
    {"name": "health", "function": health.health_sweep, "cron": "* * * * *"},
    {"name": "calls", "function": reconcile.sweep_calls, "cron": "* * * * *"},
    {"name": "reconcile", "function": reconcile.reconcile, "cron": "*/5 * * * *"},
    {"name": "wallets", "function": topups.sweep_wallets, "cron": "* * * * *"},
    {"name": "spending", "function": spending.watch_spending, "cron": "* * * * *"},
    {"name": "dunning", "function": dunning.sweep_dunning, "cron": "* * * * *"},
    {"name": "refunds", "function": refunds.sweep_refunds, "cron": "*/5 * * * *"},
    {"name": "deleted", "function": deletion.sweep_deleted, "cron": "23 * * * *"},
    {"name": "backups", "function": backup.sweep_backups, "cron": "* * * * *"},
    {"name": "money-watch", "function": money.watch_money, "cron": "*/5 * * * *"},
    {"name": "money", "function": money.reconcile_money, "cron": "17 3 * * *"},
]

WORKFLOWS = tuple(
    import_module(f"{workflows.__name__}.{one.name}")
    for one in iter_modules(workflows.__path__)
    if f"{workflows.__name__}.{one.name}" != __name__
)
"""Every module of the corridor: one that is not imported would not have registered its workflows."""
