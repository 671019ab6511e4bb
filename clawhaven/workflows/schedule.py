"""What happens by itself, and how often (cron, UTC)."""

from __future__ import annotations

from typing import Any

from clawhaven.workflows import claim, health, letters, lifecycle, payments, provision, reconcile

SCHEDULES: list[dict[str, Any]] = [
    {"name": "health", "function": health.health_sweep, "cron": "* * * * *"},
    {"name": "calls", "function": reconcile.sweep_calls, "cron": "* * * * *"},
    {"name": "reconcile", "function": reconcile.reconcile, "cron": "*/5 * * * *"},
]

WORKFLOWS = (claim, health, letters, lifecycle, payments, provision, reconcile)
"""Every module that registers workflows; importing this one registers them all."""
