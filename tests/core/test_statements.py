"""Statements for many rows: the same on both databases, whatever the number of rows and the types of their values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError

from clawhaven.core.db import Database, table_of
from clawhaven.core.statements import InsertMany, Lookup, UpdateMany
from clawhaven.metering.models import UsageHour

HOUR = datetime(2026, 11, 21, 12, tzinfo=UTC)
TABLE = table_of(UsageHour)
KEY = ("instance_id", "hour_at", "model", "source")
SUMS = (
    "calls",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "weighted_tokens",
    "price_micros",
    "provider_cost_micros",
)
ADD = InsertMany(TABLE, key=KEY, adds=SUMS)
PUT = InsertMany(TABLE)
MOVE = UpdateMany(
    TABLE, where={"instance_id": "whose", "calls": "calls_before"}, values={"calls": "calls_now", "hour_at": "then"}
)
FIND = Lookup(
    TABLE.c.instance_id,
    sa.select(TABLE.c.instance_id, TABLE.c.hour_at, TABLE.c.calls, TABLE.c.price_micros)
    .where(TABLE.c.hour_at >= sa.bindparam("since", type_=TABLE.c.hour_at.type))
    .order_by(TABLE.c.instance_id),
)


def row(instance: str, calls: int = 1, hour: datetime = HOUR) -> dict[str, object]:
    key = {"instance_id": instance, "hour_at": hour, "model": 'ein "Modell" %s ? :x', "source": "person"}
    return {**key, "account_id": "acc_1", **dict.fromkeys(SUMS, 2**40), "calls": calls}


@pytest.mark.parametrize("count", [1, 2, 3, 700])
def test_any_number_of_rows_is_written_and_found(db: Database, count: int) -> None:
    names = [f"ins_{number:04}" for number in range(count)]
    with db.tx() as tx:
        PUT.run(tx, [row(name, number) for number, name in enumerate(names)])
    with db.read() as tx:
        found = FIND.fetch(tx, names, since=HOUR)
        assert sorted(found) == [(name, HOUR, number, 2**40) for number, name in enumerate(names)]
        assert FIND.fetch(tx, names, since=HOUR + timedelta(seconds=1)) == []
        assert FIND.fetch(tx, [], since=HOUR) == []
        assert FIND.fetch(tx, ["ins_none"], since=HOUR) == []


def test_a_row_that_is_there_is_added_to(db: Database) -> None:
    with db.tx() as tx:
        ADD.run(tx, [row("ins_1", 2), row("ins_2", 3)])
        ADD.run(tx, [row("ins_1", 5)])
        ADD.run(tx, [])
        assert [(one[0], one[2], one[3]) for one in FIND.fetch(tx, ["ins_1", "ins_2"], since=HOUR)] == [
            ("ins_1", 7, 2 * 2**40),
            ("ins_2", 3, 2**40),
        ]


def test_only_rows_that_are_as_expected_are_changed_and_counted(db: Database) -> None:
    later = HOUR + timedelta(hours=1)
    with db.tx() as tx:
        PUT.run(tx, [row(f"ins_{number}", number) for number in range(4)])
        wanted = [
            {"whose": f"ins_{number}", "calls_before": number % 3, "calls_now": 100 + number, "then": later}
            for number in range(4)
        ]
        assert MOVE.run(tx, wanted) == 3
        found = FIND.fetch(tx, [f"ins_{number}" for number in range(4)], since=HOUR)
        assert [(one[1], one[2]) for one in found] == [(later, 100), (later, 101), (later, 102), (HOUR, 3)]


def test_what_the_database_refuses_is_its_usual_error_and_nothing_of_it_stays(db: Database) -> None:
    with pytest.raises(IntegrityError, match=r"(?i)unique"), db.tx() as tx:
        PUT.run(tx, [row("ins_1"), row("ins_1")])
    with pytest.raises(DBAPIError), db.hurried_tx() as tx:
        Lookup(TABLE.c.instance_id, sa.select(sa.column("no_such_column")).select_from(TABLE)).fetch(tx, ["x"])
    with db.hurried_tx() as tx:
        PUT.run(tx, [row("ins_2")])
    with db.read() as tx:
        assert len(FIND.fetch(tx, ["ins_2"], since=HOUR)) == 1
    with db.read() as tx:
        assert FIND.fetch(tx, ["ins_1"], since=HOUR) == []


def test_what_did_not_wait_for_the_disk_is_there_after_a_flush(db: Database) -> None:
    with db.hurried_tx() as tx:
        tx.execute(sa.text("CREATE TABLE hurried (name TEXT)"))
        tx.execute(sa.text("INSERT INTO hurried VALUES ('one')"))
    with db.read() as tx:
        written = None if db.is_sqlite else tx.scalar(sa.text("SELECT pg_current_wal_insert_lsn()"))
    db.flush()
    with db.read() as tx:
        assert tx.scalar(sa.text("SELECT name FROM hurried")) == "one"
        if written:
            assert tx.scalar(sa.text("SELECT pg_current_wal_flush_lsn() >= CAST(:at AS pg_lsn)"), {"at": written})


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_plan_made_while_the_table_was_empty_looks_rows_up_by_their_keys(db: Database) -> None:
    # SQLite has one plan for one row.
    add_one = UpdateMany(TABLE, where={name: f"its_{name}" for name in KEY}, values={"calls": "calls_now"})
    names = [f"ins_{number:04}" for number in range(2000)]

    def wanted(instance: str) -> dict[str, object]:
        of = row(instance)
        return {"calls_now": 7, **{f"its_{name}": of[name] for name in KEY}}

    with db.hurried_tx() as tx:
        assert add_one.run(tx, [wanted("ins_0001")]) == 0
        PUT.run(tx, [row(name) for name in names])
        assert add_one.run(tx, [wanted(name) for name in names[:300]]) == 300
        text = add_one._ready["postgresql"].text
        connection = tx.connection().connection.dbapi_connection
        assert connection is not None
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN {text}", {"the_rows": "[]"})
            plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "Nested Loop" in plan
    assert "Index Cond" in plan
    assert "Hash" not in plan


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_flush_whose_connection_was_cut_fails_as_usual_and_the_next_one_connects_again(db: Database) -> None:
    # SQLite's flush has no connection.
    db.flush()
    with db._own.flushing.connection.dbapi_connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    with db.tx() as tx:
        tx.execute(sa.text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": pid})
    with pytest.raises(DBAPIError):
        db.flush()
    db.flush()
