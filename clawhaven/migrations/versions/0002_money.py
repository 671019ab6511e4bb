"""money: customers, covers, dunning, refunds, wallets, credits, coupons, own keys

Revision: 0002, after: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

import clawhaven.core.db

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "coupon",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.Column("months", sa.BigInteger(), nullable=True),
        sa.Column("max_redemptions", sa.BigInteger(), nullable=True),
        sa.Column("redeemed", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=True),
        sa.Column("created_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("disabled_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_coupon")),
    )
    op.create_table(
        "own_key",
        sa.Column("instance_id", sa.String(length=40), nullable=False),
        sa.Column("upstream", sa.String(length=40), nullable=False),
        sa.Column("sealed", sa.Text(), nullable=False),
        sa.Column("hint", sa.String(length=8), nullable=False),
        sa.Column("checked_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("instance_id", name=op.f("pk_own_key")),
    )
    op.create_table(
        "coupon_redemption",
        sa.Column("coupon_id", sa.String(length=40), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=False),
        sa.Column("checkout_id", sa.String(length=40), nullable=True),
        sa.Column("created_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_coupon_redemption_account_id_account")),
        sa.ForeignKeyConstraint(["coupon_id"], ["coupon.id"], name=op.f("fk_coupon_redemption_coupon_id_coupon")),
        sa.PrimaryKeyConstraint("coupon_id", "account_id", name=op.f("pk_coupon_redemption")),
    )
    op.create_table(
        "credit_grant",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=False),
        sa.Column("source", sa.String(length=20), nullable=False),
        sa.Column("amount_micros", sa.BigInteger(), nullable=False),
        sa.Column("granted_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("expires_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=True),
        sa.Column("expired_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=True),
        sa.Column("expired_micros", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_credit_grant_account_id_account")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_credit_grant")),
        sa.UniqueConstraint("key", name=op.f("uq_credit_grant_key")),
    )
    with op.batch_alter_table("credit_grant", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_credit_grant_account_id"), ["account_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_credit_grant_expires_at"), ["expires_at"], unique=False)

    op.create_table(
        "vendor_customer",
        sa.Column("account_id", sa.String(length=40), nullable=False),
        sa.Column("provider", sa.String(length=40), nullable=False),
        sa.Column("reference", sa.String(length=200), nullable=False),
        sa.Column("created_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_vendor_customer_account_id_account")),
        sa.PrimaryKeyConstraint("account_id", "provider", name=op.f("pk_vendor_customer")),
        sa.UniqueConstraint("provider", "reference", name=op.f("uq_vendor_customer_provider_reference")),
    )
    op.create_table(
        "wallet",
        sa.Column("account_id", sa.String(length=40), nullable=False),
        sa.Column("level", sa.String(length=20), nullable=False),
        sa.Column("level_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("episode", sa.BigInteger(), nullable=False),
        sa.Column("refused_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=True),
        sa.Column("is_auto", sa.Boolean(), nullable=False),
        sa.Column("auto_threshold_micros", sa.BigInteger(), nullable=False),
        sa.Column("auto_amount_micros", sa.BigInteger(), nullable=False),
        sa.Column("auto_state", sa.String(length=20), nullable=False),
        sa.Column("auto_count", sa.BigInteger(), nullable=False),
        sa.Column("auto_error", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_wallet_account_id_account")),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_wallet")),
    )
    with op.batch_alter_table("wallet", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_wallet_level"), ["level"], unique=False)

    op.create_table(
        "dunning",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("subscription_id", sa.String(length=40), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=False),
        sa.Column("cause", sa.String(length=20), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("began_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("suspend_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("delete_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_dunning_account_id_account")),
        sa.ForeignKeyConstraint(
            ["subscription_id"], ["subscription.id"], name=op.f("fk_dunning_subscription_id_subscription")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dunning")),
    )
    with op.batch_alter_table("dunning", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_dunning_account_id"), ["account_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_dunning_state"), ["state"], unique=False)
        batch_op.create_index(batch_op.f("ix_dunning_subscription_id"), ["subscription_id"], unique=False)
        batch_op.create_index(
            "uq_dunning_open",
            ["subscription_id"],
            unique=True,
            sqlite_where=sa.text("ended_at IS NULL"),
            postgresql_where=sa.text("ended_at IS NULL"),
        )

    op.create_table(
        "refund",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=False),
        sa.Column("receipt_id", sa.String(length=40), nullable=False),
        sa.Column("amount_micros", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.String(length=80), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("reference", sa.String(length=200), nullable=True),
        sa.Column("error", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_refund_account_id_account")),
        sa.ForeignKeyConstraint(["receipt_id"], ["receipt.id"], name=op.f("fk_refund_receipt_id_receipt")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_refund")),
    )
    with op.batch_alter_table("refund", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_refund_account_id"), ["account_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_refund_receipt_id"), ["receipt_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_refund_state"), ["state"], unique=False)

    op.create_table(
        "subscription_cover",
        sa.Column("instance_id", sa.String(length=40), nullable=False),
        sa.Column("subscription_id", sa.String(length=40), nullable=False),
        sa.Column("created_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["subscription_id"], ["subscription.id"], name=op.f("fk_subscription_cover_subscription_id_subscription")
        ),
        sa.PrimaryKeyConstraint("instance_id", name=op.f("pk_subscription_cover")),
    )
    with op.batch_alter_table("subscription_cover", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_subscription_cover_subscription_id"), ["subscription_id"], unique=False)

    with op.batch_alter_table("checkout", schema=None) as batch_op:
        batch_op.add_column(sa.Column("kind", sa.String(length=20), server_default="subscription", nullable=False))
        batch_op.add_column(sa.Column("coupon_id", sa.String(length=40), nullable=True))
        batch_op.add_column(sa.Column("trial_days", sa.BigInteger(), server_default="0", nullable=False))

    with op.batch_alter_table("payment_event", schema=None) as batch_op:
        batch_op.add_column(sa.Column("payment_reference", sa.String(length=200), nullable=True))
        batch_op.add_column(sa.Column("checkout_key", sa.String(length=200), nullable=True))

    with op.batch_alter_table("receipt", schema=None) as batch_op:
        batch_op.add_column(sa.Column("refunded_micros", sa.BigInteger(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("fee_micros", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("dispute", sa.String(length=20), nullable=True))
        batch_op.add_column(sa.Column("period_start_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("period_end_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=True))

    with op.batch_alter_table("subscription", schema=None) as batch_op:
        batch_op.add_column(sa.Column("amount_micros", sa.BigInteger(), server_default="0", nullable=False))
        batch_op.add_column(sa.Column("trial_end_at", clawhaven.core.db.UtcDateTime(timezone=True), nullable=True))
        batch_op.add_column(sa.Column("pay_url", sa.Text(), nullable=True))

    op.execute(
        "INSERT INTO subscription_cover (instance_id, subscription_id, created_at) "
        "SELECT s.instance_id, s.id, s.created_at FROM subscription s "
        "WHERE s.instance_id IS NOT NULL AND s.id = (SELECT o.id FROM subscription o "
        "WHERE o.instance_id = s.instance_id ORDER BY o.created_at DESC, o.id DESC LIMIT 1)"
    )
    op.execute(
        "UPDATE subscription SET amount_micros = "
        "(SELECT c.amount_micros FROM checkout c WHERE c.id = subscription.checkout_id)"
    )


def downgrade() -> None:
    raise RuntimeError("what this revision keeps is money; restore a backup instead of going back before it")
