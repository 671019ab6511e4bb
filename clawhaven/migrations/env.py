"""Alembic's environment: our tables only, one history for SQLite and PostgreSQL, foreign keys off while tables move."""

from __future__ import annotations

import importlib
from typing import Any

from alembic import context
from sqlalchemy import Engine

from clawhaven.core.db import Base, make_engine

for module in (
    "core.audit",
    "core.idempotency",
    "core.ratelimit",
    "accounts.models",
    "ledger.models",
    "billing.models",
    "instances.models",
    "instances.skillset",
    "integrations.models",
    "notices.models",
    "metering.models",
    "metering.pricebook",
    "workflows.engine",
):
    importlib.import_module(f"clawhaven.{module}")


def is_ours(name: str | None, type_: str, _parents: Any) -> bool:
    """Leave the workflow engine's tables alone."""
    return type_ != "table" or name in Base.metadata.tables


def run(engine: Engine) -> None:
    """Apply the migrations on one connection."""
    with engine.begin() as connection:
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            render_as_batch=True,
            include_name=is_ours,
            compare_type=False,
            user_module_prefix="clawhaven.core.db.",
        )
        context.run_migrations()
        if connection.dialect.name == "sqlite":
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
            if broken:
                raise RuntimeError(f"the migration left broken foreign keys: {broken[:5]}")


engine = make_engine(context.config.get_main_option("sqlalchemy.url") or "", foreign_keys=False)
try:
    run(engine)
finally:
    engine.dispose()
