"""What is spent, watched: one letter a day for what was reached, one alert an hour for what is dear."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from clawhaven import metering
from clawhaven.accounts.models import User
from clawhaven.core.errors import Invalid, NotFound
from clawhaven.core.ids import new_id
from clawhaven.metering import Source
from clawhaven.metering import spending as room
from clawhaven.metering.limits import ACCOUNT_SPEND_PER_DAY, AUTOMATIC_PER_DAY, SPEND_PER_DAY
from clawhaven.metering.models import Grant, UsageHour, UsageRow
from clawhaven.metering.spending import spending_of
from clawhaven.metering.usage import hour_of
from clawhaven.notices import outbox
from clawhaven.notices.models import Notice
from clawhaven.workflows import spending
from clawhaven.workflows.checkout import Begun
from clawhaven.workflows.schedule import SCHEDULES
from tests.workflows.scene import Scene

DOLLAR = 1_000_000
HOUR = timedelta(hours=1)


@pytest.fixture
def begun(scene: Scene) -> Begun:
    """A metered assistant that runs, at noon."""
    now = scene.ctx.clock.now()
    scene.ctx.clock.advance((now.replace(hour=12, minute=0, second=0, microsecond=0) + timedelta(days=1)) - now)
    return scene.live(plan="metered")


def use(scene: Scene, begun: Begun, dollars: float, source: Source = Source.PERSON, hours_ago: int = 0) -> None:
    """So much was charged within an hour."""
    with scene.ctx.db.tx() as db:
        db.merge(
            UsageHour(
                instance_id=begun.instance.id,
                hour_at=hour_of(scene.ctx.clock.now()) - hours_ago * HOUR,
                model="m",
                source=source.value,
                account_id=begun.owner.account.id,
                price_micros=round(dollars * DOLLAR),
                calls=1,
                input_tokens=0,
                output_tokens=0,
                cache_read_tokens=0,
                cache_write_tokens=0,
                weighted_tokens=0,
                provider_cost_micros=0,
            )
        )


def letters(scene: Scene, prefix: str) -> list[str]:
    """The texts of letters under keys that begin so."""
    with scene.ctx.db.read() as db:
        rows = db.scalars(sa.select(Notice).where(Notice.key.startswith(prefix)).order_by(Notice.created_at)).all()
        found = [outbox.message(db, row.id, scene.ctx.keys) for row in rows]
    return [f"{one.to}\n{one.subject}\n{one.text}" for one in found if one]


def refuse(scene: Scene, begun: Begun, limit: str) -> None:
    """What the proxy does when a limit of money refuses a call."""
    with scene.ctx.db.tx() as db:
        grant = metering.grant_of(db, begun.instance.id)
        assert grant
        room.note_reached(db, grant, limit, scene.ctx.clock.now())


def test_a_new_assistant_has_its_plans_allowance(scene: Scene, begun: Begun) -> None:
    own_key = scene.live("eve@example.com", plan="monthly")
    with scene.ctx.db.read() as db:
        assert {one.instance_id: one.automatic_per_day_micros for one in db.scalars(sa.select(Grant))} == {
            begun.instance.id: DOLLAR // 2,
            own_key.instance.id: None,
        }


def test_grants_follow_a_changed_plan(scene: Scene, begun: Begun) -> None:
    with scene.ctx.db.tx() as db:
        db.execute(sa.update(Grant).values(automatic_per_day_micros=None))
    assert (spending.align(scene.ctx), spending.align(scene.ctx)) == (1, 0)
    with scene.ctx.db.read() as db:
        assert db.scalar(sa.select(Grant.automatic_per_day_micros)) == DOLLAR // 2


def test_a_link_that_works_without_a_sign_in_goes_to_proven_addresses_alone(scene: Scene, begun: Begun) -> None:
    use(scene, begun, 0.6, Source.HEARTBEAT)
    assert spending.tell(scene.ctx) == 1
    (text,) = letters(scene, "limit:automatic")
    assert "/continue/" not in text
    assert f"/instances/{begun.instance.id}/usage" in text


def test_a_pause_is_told_once_a_day_with_a_link_that_works_once(scene: Scene, begun: Begun) -> None:
    assert spending.tell(scene.ctx) == 0
    with scene.ctx.db.tx() as db:
        db.execute(sa.update(User).values(verified_at=scene.ctx.clock.now()))
    use(scene, begun, 0.6, Source.HEARTBEAT)
    assert (spending.tell(scene.ctx), spending.tell(scene.ctx)) == (1, 0)
    (text,) = letters(scene, "limit:automatic")
    assert "Ada has paused what it does by itself" in text
    assert "$0.60" in text
    assert "another $0.50" in text
    token = text.split("/continue/")[1].split()[0]
    assert spending.read_link(scene.ctx, token) == (begun.instance.id, 0)
    for _ in range(2):
        instance_id, seen = spending.read_link(scene.ctx, token)
        with scene.ctx.db.tx() as db:
            found = spending.go_on(db, scene.ctx, instance_id, "link", seen)
        assert (found.allowance_micros, found.is_automatic_paused) == (DOLLAR, False)
    assert scene.count("audit_log", "action = 'spending.continue'") == 1
    use(scene, begun, 1.2, Source.HEARTBEAT)
    assert spending.tell(scene.ctx) == 0
    scene.ctx.clock.advance(timedelta(days=1))
    with pytest.raises(Invalid) as over:
        spending.read_link(scene.ctx, token)
    assert over.value.error_code == "link_over"
    with pytest.raises(NotFound):
        spending.read_link(scene.ctx, token[:-6] + "AAAAAA")
    assert spending.tell(scene.ctx) == 0
    use(scene, begun, 0.5, Source.CRON)
    assert spending.tell(scene.ctx) == 1


def test_a_persons_spending_pauses_nothing(scene: Scene, begun: Begun) -> None:
    use(scene, begun, 50)
    use(scene, begun, 50, Source.SUBAGENT)
    assert spending.tell(scene.ctx) == 0


def test_a_limit_that_refused_a_call_is_told_once_a_day(scene: Scene, begun: Begun) -> None:
    account, ctx = begun.owner.account.id, scene.ctx
    with ctx.db.tx() as db:
        spending.set_limit(db, ctx, begun.instance.id, 2 * DOLLAR, "user:x")
        spending.set_account_limit(db, ctx, account, 5 * DOLLAR, "user:x")
    for limit in (SPEND_PER_DAY, ACCOUNT_SPEND_PER_DAY, AUTOMATIC_PER_DAY, SPEND_PER_DAY):
        refuse(scene, begun, limit)
    assert (spending.tell(ctx), spending.tell(ctx)) == (2, 0)
    one, whole = letters(scene, "limit:spend"), letters(scene, "limit:account")
    assert "$2.00 a day for Ada" in one[0]
    assert "$5.00 a day for all your assistants" in whole[0]
    assert all(text.startswith("ada@example.com\n") for text in one + whole)
    refuse(scene, begun, SPEND_PER_DAY)
    assert spending.tell(ctx) == 0
    assert scene.count("audit_log", "action = 'spending.limit'") == 2


def test_a_limit_that_was_lifted_meanwhile_is_not_told(scene: Scene, begun: Begun) -> None:
    refuse(scene, begun, SPEND_PER_DAY)
    assert (spending.tell(scene.ctx), spending.tell(scene.ctx)) == (0, 0)
    assert letters(scene, "limit:") == []


def test_yesterdays_limit_is_not_told_today(scene: Scene, begun: Begun) -> None:
    with scene.ctx.db.tx() as db:
        spending.set_limit(db, scene.ctx, begun.instance.id, DOLLAR, "user:x")
    refuse(scene, begun, SPEND_PER_DAY)
    scene.ctx.clock.advance(13 * HOUR)
    assert spending.tell(scene.ctx) == 0


def test_a_dear_hour_is_told_once(scene: Scene, begun: Begun) -> None:
    use(scene, begun, 9.9)
    assert spending.find_spikes(scene.ctx) == 0
    use(scene, begun, 10.5)
    assert (spending.find_spikes(scene.ctx), spending.find_spikes(scene.ctx)) == (1, 0)
    use(scene, begun, 99)
    assert spending.find_spikes(scene.ctx) == 0
    scene.ctx.clock.advance(HOUR)
    assert spending.find_spikes(scene.ctx) == 0
    (text,) = letters(scene, "spend-spike:")
    assert text.startswith(f"{scene.ctx.settings.support_address}\nada@example.com has spent $10.50 within an hour")
    assert f"/admin/accounts/{begun.owner.account.id}" in text


def test_an_hour_is_judged_by_the_accounts_own_week(scene: Scene, begun: Begun) -> None:
    for ago in range(1, 11):
        use(scene, begun, 8, hours_ago=ago)
    use(scene, begun, 23.9)
    assert spending.find_spikes(scene.ctx) == 0
    use(scene, begun, 24.1)
    assert spending.find_spikes(scene.ctx) == 1
    assert "95th percentile) were $8.00" in letters(scene, "spend-spike:")[0]


def test_the_last_minutes_of_an_hour_are_seen_in_the_next(scene: Scene, begun: Begun) -> None:
    use(scene, begun, 30, hours_ago=1)
    assert spending.find_spikes(scene.ctx) == 1


def test_what_is_told_survives_a_round_that_dies(scene: Scene, begun: Begun, monkeypatch: pytest.MonkeyPatch) -> None:
    use(scene, begun, 0.6, Source.CRON)
    use(scene, begun, 30)
    real = spending.letters.post_to

    def die(*args: object, **kwargs: object) -> None:
        real(*args, **kwargs)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(spending.letters, "post_to", die)
    for look in (spending.tell, spending.find_spikes):
        with pytest.raises(KeyboardInterrupt):
            look(scene.ctx)
    assert scene.count("notice", "key LIKE 'limit:%' OR key LIKE 'spend-spike:%'") == 0
    monkeypatch.undo()
    assert (spending.tell(scene.ctx), spending.find_spikes(scene.ctx)) == (1, 1)
    with scene.ctx.db.read() as db:
        assert spending_of(db, scene.ctx.clock.now(), instance_ids=[begun.instance.id])[0].is_automatic_paused


@pytest.mark.parametrize(
    ("values", "count", "expected"),
    [([], 168, 0), ([5], 168, 0), ([1] * 8, 168, 0), ([1] * 9, 168, 1), (range(1, 101), 100, 95), ([7], 1, 7)],
)
def test_the_95th_percentile_is_the_nearest_rank(values: list[int], count: int, expected: int) -> None:
    assert spending.percentile_95(list(values), count) == expected


def test_it_is_looked_at_every_minute() -> None:
    assert {"name": "spending", "function": spending.watch_spending, "cron": "* * * * *"} in SCHEDULES


def test_what_no_balance_covered_is_told_once_a_day(scene: Scene, begun: Begun) -> None:
    assert spending.find_uncovered(scene.ctx) == 0
    leave_uncovered(scene, begun, 0)
    assert spending.find_uncovered(scene.ctx) == 0
    leave_uncovered(scene, begun, 1_500_000)
    leave_uncovered(scene, begun, 250_000)
    assert (spending.find_uncovered(scene.ctx), spending.find_uncovered(scene.ctx)) == (1, 0)
    (told,) = letters(scene, "uncovered:")
    assert told.startswith(f"{scene.ctx.settings.support_address}\nUsage for $1.75 was covered by no balance")
    assert f"- {begun.owner.user.email}: $1.75\n" in told
    scene.ctx.clock.advance(timedelta(days=1))
    assert spending.find_uncovered(scene.ctx) == 0
    leave_uncovered(scene, begun, 10_000)
    scene.ctx.clock.advance(timedelta(days=1))
    assert spending.find_uncovered(scene.ctx) == 1
    scene.ctx.clock.advance(timedelta(days=1))
    leave_uncovered(scene, begun, 10_000, days_ago=2)
    assert spending.find_uncovered(scene.ctx) == 0
    assert scene.count("notice", "kind = 'alert' AND key LIKE 'uncovered:%'") == 2


def leave_uncovered(scene: Scene, begun: Begun, micros: int, days_ago: int = 0) -> None:
    """A call for which so much was missing."""
    at = scene.ctx.clock.now() - timedelta(days=days_ago)
    with scene.ctx.db.tx() as db:
        db.add(
            UsageRow(
                id=new_id("call"),
                instance_id=begun.instance.id,
                account_id=begun.owner.account.id,
                plan_mode="metered",
                model="m",
                upstream="sandbox",
                dialect="openai",
                price_id="p",
                markup_percent=150,
                state="closed",
                uncovered_micros=micros,
                started_at=at,
                expires_at=at,
            )
        )
