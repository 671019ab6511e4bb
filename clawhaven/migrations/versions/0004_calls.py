"""calls: holds stand in the call's own row, sums by the hour, limits of money a day

Revision: 0004, after: 0003
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

from clawhaven.core.db import UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_SUMS = (
    "calls",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "weighted_tokens",
    "price_micros",
    "provider_cost_micros",
)

_USAGE = sa.table(
    "usage",
    *map(
        sa.column,
        (
            "instance_id",
            "account_id",
            "model",
            "source",
            "state",
            "started_at",
            "input_tokens",
            "output_tokens",
            "cache_read_tokens",
            "cache_write_5m_tokens",
            "cache_write_1h_tokens",
            "price_micros",
            "provider_cost_micros",
        ),
    ),
)


def upgrade() -> None:
    op.create_table(
        "usage_hour",
        sa.Column("instance_id", sa.String(length=40), nullable=False),
        sa.Column("hour_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("model", sa.String(length=100), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in _SUMS),
        sa.PrimaryKeyConstraint("instance_id", "hour_at", "model", "source", name=op.f("pk_usage_hour")),
    )
    op.create_index(op.f("ix_usage_hour_account_id_hour_at"), "usage_hour", ["account_id", "hour_at"])
    with op.batch_alter_table("model_grant") as table:
        for name in ("spend_per_day_micros", "account_spend_per_day_micros", "automatic_per_day_micros"):
            table.add_column(sa.Column(name, sa.BigInteger(), nullable=True))
        table.add_column(sa.Column("automatic_extra_micros", sa.BigInteger(), server_default="0", nullable=False))
        table.add_column(sa.Column("automatic_extra_day", sa.String(length=10), nullable=True))
    op.drop_index("ix_usage_state_expires_at", "usage")
    op.drop_index("ix_usage_trace_id", "usage")
    for column in (
        sa.Column("is_message", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("ledger_account_id", sa.String(length=40), nullable=True),
        sa.Column("held_micros", sa.BigInteger(), server_default="0", nullable=False),
    ):
        op.add_column("usage", column)
    _move_holds()
    op.drop_column("usage", "reservation_key")
    for name, condition, columns in (
        ("ix_usage_open", "state = 'open'", ["instance_id", "expires_at"]),
        ("ix_usage_message", "is_message", ["instance_id", "started_at"]),
        ("ix_usage_trace", "trace_id IS NOT NULL", ["trace_id"]),
    ):
        where = sa.text(condition)
        op.create_index(name, "usage", columns, sqlite_where=where, postgresql_where=where)


def _move_holds() -> None:
    """What is under way when the new version starts ends properly in it; what was used already is added up."""
    op.execute(
        "UPDATE usage SET "
        "ledger_account_id = (SELECT r.ledger_account_id FROM reservation r WHERE r.key = usage.reservation_key), "
        "held_micros = COALESCE((SELECT r.amount_micros FROM reservation r "
        "WHERE r.key = usage.reservation_key AND r.state = 'held'), 0) "
        "WHERE reservation_key IS NOT NULL"
    )
    op.execute(
        "UPDATE reservation SET state = 'released' WHERE state = 'held' AND key IN "
        "(SELECT reservation_key FROM usage WHERE reservation_key IS NOT NULL)"
    )
    op.execute("UPDATE usage SET is_message = (is_turn OR source = 'automatic')")
    if op.get_bind().dialect.name == "sqlite":
        hour: Any = sa.func.strftime("%Y-%m-%d %H:00:00.000000", _USAGE.c.started_at)
    else:
        hour = sa.func.date_trunc("hour", _USAGE.c.started_at, "UTC")
    read, written = _USAGE.c.cache_read_tokens, _USAGE.c.cache_write_5m_tokens + _USAGE.c.cache_write_1h_tokens
    amounts = {
        "input_tokens": _USAGE.c.input_tokens,
        "output_tokens": _USAGE.c.output_tokens,
        "cache_read_tokens": read,
        "cache_write_tokens": written,
        "weighted_tokens": (_USAGE.c.input_tokens + _USAGE.c.output_tokens + written) * 10 + read,
        "price_micros": _USAGE.c.price_micros,
        "provider_cost_micros": _USAGE.c.provider_cost_micros,
    }
    key = [_USAGE.c.instance_id, hour.label("begins"), _USAGE.c.model, _USAGE.c.source, _USAGE.c.account_id]
    sums = [sa.func.count(), *(sa.func.sum(amount) for amount in amounts.values())]
    used = sa.select(*key, *sums).where(_USAGE.c.state == "closed").group_by(*key)
    names = ["instance_id", "hour_at", "model", "source", "account_id", "calls", *amounts]
    op.execute(sa.insert(sa.table("usage_hour", *map(sa.column, names))).from_select(names, used))


def downgrade() -> None:
    raise RuntimeError("what this revision keeps is money; restore a backup instead of going back before it")
