"""Alerts are open until somebody is done with them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from clawhaven.core.audit import AuditEntry
from clawhaven.core.db import Database
from clawhaven.core.errors import Invalid, NotFound
from clawhaven.core.secrets import KeyRing
from clawhaven.notices import alerts, kinds, outbox

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def test_open_ones_page_by_page_and_closed_once(db: Database) -> None:
    keys = KeyRing([b"k" * 32])
    with db.tx() as tx:
        ids = [
            outbox.write(tx, f"a{n}", kinds.alert(f"No. {n}", "…"), "ops@example.com", keys, NOW + timedelta(minutes=n))
            for n in range(5)
        ]
        other = outbox.write(tx, "r", kinds.sign_in("x", "https://x"), "ada@example.com", keys, NOW)
    with db.tx() as tx:
        first = alerts.list_alerts(tx, limit=3)
        rest = alerts.list_alerts(tx, cursor=first.next_cursor, limit=3)
        assert [one.id for one in (*first.alerts, *rest.alerts)] == ids[::-1]
        assert rest.next_cursor is None
        for _ in range(2):
            alerts.close(tx, str(ids[0]), NOW, "user:boss")
        assert alerts.count_open(tx) == 4
        assert [one.id for one in alerts.list_alerts(tx, is_open=False).alerts] == [ids[0]]
        assert tx.scalar(sa.select(sa.func.count()).select_from(AuditEntry)) == 1
        for wrong in (other, "not_nothing"):
            with pytest.raises(NotFound):
                alerts.close(tx, str(wrong), NOW, "user:boss")
        with pytest.raises(Invalid):
            alerts.list_alerts(tx, cursor="x")
