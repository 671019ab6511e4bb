"""first tables

Revision: 0001, after:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import clawhaven.core.db

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


APPEND_ONLY = {
    "sqlite": [
        f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        for table in ("ledger_entry", "ledger_posting")
        for verb in ("UPDATE", "DELETE")
    ],
    "postgresql": [
        "CREATE OR REPLACE FUNCTION refuse_ledger_change() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION USING MESSAGE = TG_TABLE_NAME || ' is append-only'; END $$",
        *(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_ledger_change()"
            for table in ("ledger_entry", "ledger_posting")
        ),
    ],
}


def upgrade() -> None:
    op.create_table(
        "audit_log",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(length=80), nullable=False),
        sa.Column("action", sa.String(length=80), nullable=False),
        sa.Column("subject", sa.String(length=80), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=True),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
    )
    with op.batch_alter_table("audit_log", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_audit_log_account_id"), ["account_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_audit_log_at"), ["at"], unique=False)
        batch_op.create_index(batch_op.f("ix_audit_log_subject"), ["subject"], unique=False)

    op.create_table(
        "boot_slot",
        sa.Column("host", sa.String(length=100), nullable=False),
        sa.Column("slot", sa.BigInteger(), nullable=False),
        sa.Column("instance_id", sa.String(length=40), nullable=False),
        sa.Column("taken_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("host", "slot", name=op.f("pk_boot_slot")),
        sa.UniqueConstraint("instance_id", name=op.f("uq_boot_slot_instance_id")),
    )
    op.create_table(
        "executor_lease",
        sa.Column("executor_id", sa.String(length=100), nullable=False),
        sa.Column("host", sa.String(length=100), nullable=False),
        sa.Column("seen", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("executor_id", name=op.f("pk_executor_lease")),
    )
    op.create_table(
        "idempotency_key",
        sa.Column("scope", sa.String(length=120), nullable=False),
        sa.Column("key", sa.String(length=128), nullable=False),
        sa.Column("request_hash", sa.String(length=64), nullable=False),
        sa.Column("status", sa.BigInteger(), nullable=True),
        sa.Column("body", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("scope", "key", name=op.f("pk_idempotency_key")),
    )
    with op.batch_alter_table("idempotency_key", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_idempotency_key_created_at"), ["created_at"], unique=False)

    op.create_table(
        "ledger_account",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("owner_id", sa.String(length=40), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("balance_micros", sa.BigInteger(), nullable=True),
        sa.Column("held_micros", sa.BigInteger(), nullable=False),
        sa.Column("floor_micros", sa.BigInteger(), nullable=True),
        sa.Column("created_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.CheckConstraint("held_micros >= 0", name=op.f("ck_ledger_account_held_not_negative")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_account")),
        sa.UniqueConstraint("kind", "owner_id", name=op.f("uq_ledger_account_kind_owner_id")),
    )
    op.create_table(
        "ledger_entry",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("idem_key", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("ref", sa.String(length=200), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_entry")),
        sa.UniqueConstraint("idem_key", name=op.f("uq_ledger_entry_idem_key")),
    )
    with op.batch_alter_table("ledger_entry", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_ledger_entry_ref"), ["ref"], unique=False)

    op.create_table(
        "model_grant",
        sa.Column("instance_id", sa.String(length=40), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=False),
        sa.Column("key_hash", sa.String(length=64), nullable=False),
        sa.Column("is_active", sa.Boolean(), nullable=False),
        sa.Column("plan_mode", sa.String(length=16), nullable=False),
        sa.Column("ledger_account_id", sa.String(length=40), nullable=True),
        sa.Column("messages_per_hour", sa.BigInteger(), nullable=True),
        sa.Column("tokens_per_day", sa.BigInteger(), nullable=True),
        sa.Column("max_in_flight", sa.BigInteger(), nullable=True),
        sa.Column("models", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("markup_percent", sa.BigInteger(), nullable=False),
        sa.Column("own_key_upstream", sa.String(length=32), nullable=True),
        sa.Column("own_key_sealed", sa.Text(), nullable=True),
        sa.Column("updated_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("instance_id", name=op.f("pk_model_grant")),
        sa.UniqueConstraint("key_hash", name=op.f("uq_model_grant_key_hash")),
    )
    with op.batch_alter_table("model_grant", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_model_grant_account_id"), ["account_id"], unique=False)

    op.create_table(
        "notice",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=True),
        sa.Column("recipient", sa.String(length=320), nullable=False),
        sa.Column("subject", sa.String(length=300), nullable=False),
        sa.Column("sealed_text", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("tries", sa.BigInteger(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("created_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("sent_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notice")),
        sa.UniqueConstraint("key", name=op.f("uq_notice_key")),
    )
    with op.batch_alter_table("notice", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_notice_account_id"), ["account_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_notice_state"), ["state"], unique=False)

    op.create_table(
        "payment_event",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("provider", sa.String(length=40), nullable=False),
        sa.Column("event_id", sa.String(length=200), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("vendor_type", sa.String(length=100), nullable=False),
        sa.Column("checkout_reference", sa.String(length=200), nullable=True),
        sa.Column("subscription_reference", sa.String(length=200), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("vendor_created_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("received_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("handled_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_payment_event")),
        sa.UniqueConstraint("provider", "event_id", name=op.f("uq_payment_event_provider_event_id")),
    )
    with op.batch_alter_table("payment_event", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_payment_event_state"), ["state"], unique=False)

    op.create_table(
        "rate_window",
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("started", sa.BigInteger(), nullable=False),
        sa.Column("hits", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", "started", name=op.f("pk_rate_window")),
    )
    op.create_table(
        "usage",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("instance_id", sa.String(length=40), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=False),
        sa.Column("plan_mode", sa.String(length=16), nullable=False),
        sa.Column("model", sa.String(length=100), nullable=False),
        sa.Column("upstream", sa.String(length=32), nullable=False),
        sa.Column("dialect", sa.String(length=32), nullable=False),
        sa.Column("price_id", sa.String(length=100), nullable=False),
        sa.Column("markup_percent", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("source", sa.String(length=16), nullable=False),
        sa.Column("is_turn", sa.Boolean(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_read_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_write_5m_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_write_1h_tokens", sa.BigInteger(), nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=False),
        sa.Column("is_estimated", sa.Boolean(), nullable=False),
        sa.Column("provider_cost_micros", sa.BigInteger(), nullable=False),
        sa.Column("price_micros", sa.BigInteger(), nullable=False),
        sa.Column("uncovered_micros", sa.BigInteger(), nullable=False),
        sa.Column("http_status", sa.BigInteger(), nullable=True),
        sa.Column("reservation_key", sa.String(length=200), nullable=True),
        sa.Column("error", sa.String(length=200), nullable=True),
        sa.Column("trace_id", sa.String(length=32), nullable=True),
        sa.Column("started_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("expires_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage")),
    )
    with op.batch_alter_table("usage", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_usage_account_id_started_at"), ["account_id", "started_at"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_usage_instance_id_started_at"), ["instance_id", "started_at"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_usage_state_expires_at"), ["state", "expires_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_usage_trace_id"), ["trace_id"], unique=False)

    op.create_table(
        "user_account",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column("is_operator", sa.Boolean(), nullable=False),
        sa.Column("created_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("verified_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=True),
        sa.Column("deleted_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_account")),
        sa.UniqueConstraint("email", name=op.f("uq_user_account_email")),
    )
    op.create_table(
        "waitlist",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column("created_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("invited_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_waitlist")),
        sa.UniqueConstraint("email", name=op.f("uq_waitlist_email")),
    )
    op.create_table(
        "account",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("owner_id", sa.String(length=40), nullable=False),
        sa.Column("slug", sa.String(length=63), nullable=False),
        sa.Column("created_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["owner_id"], ["user_account.id"], name=op.f("fk_account_owner_id_user_account")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account")),
        sa.UniqueConstraint("owner_id", name=op.f("uq_account_owner_id")),
        sa.UniqueConstraint("slug", name=op.f("uq_account_slug")),
    )
    op.create_table(
        "ledger_posting",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("entry_id", sa.String(length=40), nullable=False),
        sa.Column("ledger_account_id", sa.String(length=40), nullable=False),
        sa.Column("amount_micros", sa.BigInteger(), nullable=False),
        sa.Column("balance_after_micros", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["entry_id"], ["ledger_entry.id"], name=op.f("fk_ledger_posting_entry_id_ledger_entry")
        ),
        sa.ForeignKeyConstraint(
            ["ledger_account_id"],
            ["ledger_account.id"],
            name=op.f("fk_ledger_posting_ledger_account_id_ledger_account"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_posting")),
    )
    with op.batch_alter_table("ledger_posting", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_ledger_posting_entry_id"), ["entry_id"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_ledger_posting_ledger_account_id_id"), ["ledger_account_id", "id"], unique=False
        )

    op.create_table(
        "login_session",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=40), nullable=False),
        sa.Column("created_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("expires_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("user_agent", sa.String(length=300), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["user_account.id"], name=op.f("fk_login_session_user_id_user_account")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_login_session")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_login_session_token_hash")),
    )
    with op.batch_alter_table("login_session", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_login_session_expires_at"), ["expires_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_login_session_user_id"), ["user_id"], unique=False)

    op.create_table(
        "reservation",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("ledger_account_id", sa.String(length=40), nullable=False),
        sa.Column("amount_micros", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("expires_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("created_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.CheckConstraint("amount_micros >= 0", name=op.f("ck_reservation_amount_not_negative")),
        sa.ForeignKeyConstraint(
            ["ledger_account_id"], ["ledger_account.id"], name=op.f("fk_reservation_ledger_account_id_ledger_account")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reservation")),
        sa.UniqueConstraint("key", name=op.f("uq_reservation_key")),
    )
    with op.batch_alter_table("reservation", schema=None) as batch_op:
        batch_op.create_index(
            batch_op.f("ix_reservation_ledger_account_id_state"), ["ledger_account_id", "state"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_reservation_state_expires_at"), ["state", "expires_at"], unique=False)

    op.create_table(
        "sign_in_link",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=40), nullable=False),
        sa.Column("created_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("expires_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("used_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["user_account.id"], name=op.f("fk_sign_in_link_user_id_user_account")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sign_in_link")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_sign_in_link_token_hash")),
    )
    with op.batch_alter_table("sign_in_link", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_sign_in_link_user_id"), ["user_id"], unique=False)

    op.create_table(
        "api_key",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=False),
        sa.Column("user_id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("prefix", sa.String(length=16), nullable=False),
        sa.Column("key_hash", sa.String(length=64), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("created_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_api_key_account_id_account")),
        sa.ForeignKeyConstraint(["user_id"], ["user_account.id"], name=op.f("fk_api_key_user_id_user_account")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_key")),
        sa.UniqueConstraint("key_hash", name=op.f("uq_api_key_key_hash")),
    )
    with op.batch_alter_table("api_key", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_api_key_account_id"), ["account_id"], unique=False)

    op.create_table(
        "checkout",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=False),
        sa.Column("instance_id", sa.String(length=40), nullable=True),
        sa.Column("plan", sa.String(length=40), nullable=False),
        sa.Column("provider", sa.String(length=40), nullable=False),
        sa.Column("amount_micros", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("reference", sa.String(length=200), nullable=True),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("last_outcome", sa.String(length=20), nullable=True),
        sa.Column("created_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_checkout_account_id_account")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_checkout")),
        sa.UniqueConstraint("reference", name=op.f("uq_checkout_reference")),
    )
    with op.batch_alter_table("checkout", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_checkout_account_id"), ["account_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_checkout_instance_id"), ["instance_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_checkout_state"), ["state"], unique=False)

    op.create_table(
        "instance",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=False),
        sa.Column("slug", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=60), nullable=False),
        sa.Column("persona", sa.String(length=40), nullable=False),
        sa.Column("instructions", sa.Text(), nullable=False),
        sa.Column("plan", sa.String(length=40), nullable=False),
        sa.Column("model", sa.String(length=100), nullable=False),
        sa.Column("runtime", sa.String(length=40), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("suspended_for", sa.String(length=80), nullable=True),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("placement", sa.JSON(), nullable=True),
        sa.Column("gateway_token", sa.Text(), nullable=False),
        sa.Column("proxy_key", sa.Text(), nullable=False),
        sa.Column("failure_code", sa.String(length=60), nullable=True),
        sa.Column("failure_message", sa.Text(), nullable=True),
        sa.Column("created_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("paid_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=True),
        sa.Column("active_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=True),
        sa.Column("deletion_asked_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=True),
        sa.Column("deleted_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_instance_account_id_account")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance")),
    )
    with op.batch_alter_table("instance", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_instance_account_id"), ["account_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_instance_state"), ["state"], unique=False)
        batch_op.create_index(
            "uq_instance_live_slug",
            ["slug"],
            unique=True,
            sqlite_where=sa.text("deleted_at IS NULL"),
            postgresql_where=sa.text("deleted_at IS NULL"),
        )

    op.create_table(
        "channel_connection",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("instance_id", sa.String(length=40), nullable=False),
        sa.Column("channel", sa.String(length=40), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=True),
        sa.Column("credentials", sa.Text(), nullable=False),
        sa.Column("bot_username", sa.String(length=100), nullable=False),
        sa.Column("bot_url", sa.String(length=300), nullable=False),
        sa.Column("claim_token", sa.Text(), nullable=True),
        sa.Column("owner_external_id", sa.String(length=100), nullable=True),
        sa.Column("owner_username", sa.String(length=100), nullable=True),
        sa.Column("claimed_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=True),
        sa.Column("created_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["instance_id"], ["instance.id"], name=op.f("fk_channel_connection_instance_id_instance")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_channel_connection")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_channel_connection_fingerprint")),
        sa.UniqueConstraint("instance_id", "channel", name=op.f("uq_channel_connection_instance_id_channel")),
    )
    with op.batch_alter_table("channel_connection", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_channel_connection_instance_id"), ["instance_id"], unique=False)

    op.create_table(
        "instance_event",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("instance_id", sa.String(length=40), nullable=False),
        sa.Column("at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["instance_id"], ["instance.id"], name=op.f("fk_instance_event_instance_id_instance")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance_event")),
    )
    with op.batch_alter_table("instance_event", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_instance_event_instance_id"), ["instance_id"], unique=False)

    op.create_table(
        "observation",
        sa.Column("instance_id", sa.String(length=40), nullable=False),
        sa.Column("at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("status", sa.String(length=20), nullable=False),
        sa.Column("is_healthy", sa.Boolean(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("unhealthy_since", clawhaven.core.db.UtcDateTime(timezone=True), nullable=True),
        sa.Column("restarts", sa.BigInteger(), nullable=False),
        sa.Column("restarted_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["instance_id"], ["instance.id"], name=op.f("fk_observation_instance_id_instance")),
        sa.PrimaryKeyConstraint("instance_id", name=op.f("pk_observation")),
    )
    op.create_table(
        "operation",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("instance_id", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("error_code", sa.String(length=60), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("created_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["instance_id"], ["instance.id"], name=op.f("fk_operation_instance_id_instance")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operation")),
    )
    with op.batch_alter_table("operation", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_operation_instance_id"), ["instance_id"], unique=False)

    op.create_table(
        "port_allocation",
        sa.Column("host", sa.String(length=100), nullable=False),
        sa.Column("port", sa.BigInteger(), nullable=False),
        sa.Column("instance_id", sa.String(length=40), nullable=True),
        sa.Column("blocked_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["instance_id"], ["instance.id"], name=op.f("fk_port_allocation_instance_id_instance")),
        sa.PrimaryKeyConstraint("host", "port", name=op.f("pk_port_allocation")),
        sa.UniqueConstraint("instance_id", name=op.f("uq_port_allocation_instance_id")),
    )
    op.create_table(
        "receipt",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=False),
        sa.Column("checkout_id", sa.String(length=40), nullable=False),
        sa.Column("provider", sa.String(length=40), nullable=False),
        sa.Column("reference", sa.String(length=200), nullable=False),
        sa.Column("amount_micros", sa.BigInteger(), nullable=False),
        sa.Column("created_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_receipt_account_id_account")),
        sa.ForeignKeyConstraint(["checkout_id"], ["checkout.id"], name=op.f("fk_receipt_checkout_id_checkout")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_receipt")),
        sa.UniqueConstraint("provider", "reference", name=op.f("uq_receipt_provider_reference")),
    )
    with op.batch_alter_table("receipt", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_receipt_account_id"), ["account_id"], unique=False)

    op.create_table(
        "subscription",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=False),
        sa.Column("instance_id", sa.String(length=40), nullable=True),
        sa.Column("checkout_id", sa.String(length=40), nullable=False),
        sa.Column("plan", sa.String(length=40), nullable=False),
        sa.Column("provider", sa.String(length=40), nullable=False),
        sa.Column("reference", sa.String(length=200), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("is_ending", sa.Boolean(), nullable=False),
        sa.Column("period_start_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("period_end_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("checked_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("created_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_subscription_account_id_account")),
        sa.ForeignKeyConstraint(["checkout_id"], ["checkout.id"], name=op.f("fk_subscription_checkout_id_checkout")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subscription")),
        sa.UniqueConstraint("checkout_id", name=op.f("uq_subscription_checkout_id")),
        sa.UniqueConstraint("reference", name=op.f("uq_subscription_reference")),
    )
    with op.batch_alter_table("subscription", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_subscription_account_id"), ["account_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_subscription_checked_at"), ["checked_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_subscription_instance_id"), ["instance_id"], unique=False)

    op.create_table(
        "operation_step",
        sa.Column("operation_id", sa.String(length=40), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("started_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=True),
        sa.Column("ended_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["operation_id"], ["operation.id"], name=op.f("fk_operation_step_operation_id_operation")
        ),
        sa.PrimaryKeyConstraint("operation_id", "position", name=op.f("pk_operation_step")),
    )
    for statement in APPEND_ONLY[op.get_bind().dialect.name]:
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    raise RuntimeError("the first tables hold the books; restore a backup instead of going back before them")
