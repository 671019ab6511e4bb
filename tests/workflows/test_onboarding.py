"""The wizard's work: one account, one draft, one order; everything together or nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from clawhaven.accounts.signup import Owner
from clawhaven.core.errors import AppError, AtCapacity, Conflict, Invalid
from clawhaven.instances import drafts, erasure
from clawhaven.instances.models import OpenDraft
from clawhaven.workflows import letters, onboarding
from tests.workflows.scene import TOKEN, Scene

KEY = "sk-sandbox-customers-1234"


def begin(scene: Scene, plan: str = "personal", email: str = "ada@example.com") -> Owner:
    owner = onboarding.sign_up(scene.ctx, email, plan).owner
    with scene.ctx.db.tx() as db:
        onboarding.keep_words(db, scene.ctx, onboarding.open_draft(db, owner.account.id), "Ada", "personal", "Help me.")
    return owner


def row(scene: Scene, owner: Owner) -> OpenDraft | None:
    with scene.ctx.db.read() as db:
        return drafts.find_open(db, owner.account.id)


def test_ten_tabs_of_one_person_are_one_account(scene: Scene) -> None:
    def attempt(_number: int) -> str:
        try:
            onboarding.sign_up(scene.ctx, "ada@example.com", "personal")
        except AppError as error:
            return error.error_code
        return "ok"

    with ThreadPoolExecutor(10) as pool:
        said = list(pool.map(attempt, range(10)))
    assert sorted(said) == ["already_exists"] * 9 + ["ok"]
    assert scene.count("user_account") == scene.count("open_draft") == scene.count("login_session") == 1


def test_a_draft_takes_no_place_and_an_order_does(scene: Scene) -> None:
    scene.ctx.settings.max_customers = 1
    first, second = begin(scene), begin(scene, email="bob@example.com")
    onboarding.order(scene.ctx, first)
    with pytest.raises(AtCapacity):
        onboarding.order(scene.ctx, second)
    with pytest.raises(AtCapacity):
        onboarding.sign_up(scene.ctx, "carol@example.com", "personal")
    assert row(scene, second) is not None
    assert scene.count("instance") == 1


def test_an_order_is_whole_or_not_at_all(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = begin(scene, "monthly")
    onboarding.put_key(scene.ctx, owner, KEY, "")
    onboarding.connect(scene.ctx, owner, "telegram", {"telegram_bot_token": TOKEN})
    before = scene.counts()

    def die(*_args: object) -> None:
        raise RuntimeError("killed here")

    with monkeypatch.context() as killed:
        killed.setattr(letters, "post", die)
        with pytest.raises(RuntimeError):
            onboarding.order(scene.ctx, owner)
    assert scene.counts() == before
    assert row(scene, owner) is not None
    begun = onboarding.order(scene.ctx, owner)
    assert begun.checkout is not None
    assert row(scene, owner) is None
    assert scene.count("own_key") == scene.count("channel_connection") == scene.count("checkout") == 1
    with pytest.raises(Conflict) as refused:
        onboarding.order(scene.ctx, owner)
    assert refused.value.error_code == "draft_changed"


def test_many_orders_at_once_are_one(scene: Scene) -> None:
    owner = begin(scene, "metered")

    def attempt(_number: int) -> str:
        try:
            onboarding.order(scene.ctx, owner)
        except Conflict as error:
            return error.error_code
        return "ok"

    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(attempt, range(8)))
    assert sorted(said) == ["draft_changed"] * 7 + ["ok"]
    assert scene.count("instance") == scene.count("checkout") == scene.count("notice", "key LIKE 'welcome:%'") == 1


def test_a_change_of_plan_gives_up_a_model_it_does_not_offer(scene: Scene) -> None:
    owner = begin(scene, "monthly")
    with scene.ctx.db.tx() as db:
        mine = onboarding.open_draft(db, owner.account.id)
        onboarding.choose_model(db, scene.ctx, mine, "claude-sonnet-5-5")
        with pytest.raises(Invalid):
            onboarding.choose_model(db, scene.ctx, mine, "nothing-like-it")
    with scene.ctx.db.tx() as db:
        assert onboarding.choose_plan(db, scene.ctx, owner.account.id, "quarterly").model == "claude-sonnet-5-5"
    with scene.ctx.db.tx() as db:
        assert onboarding.choose_plan(db, scene.ctx, owner.account.id, "personal").model == ""
    begun = onboarding.order(scene.ctx, owner)
    assert scene.instance(begun.instance.id).model == "sandbox-1"


def test_what_nobody_touches_is_forgotten_with_its_credentials(scene: Scene) -> None:
    owner = begin(scene, "monthly")
    onboarding.put_key(scene.ctx, owner, KEY, "")
    onboarding.connect(scene.ctx, owner, "telegram", {"telegram_bot_token": TOKEN})
    kept = row(scene, owner)
    assert kept is not None
    assert KEY not in str(kept.key_sealed)
    assert TOKEN not in str(kept.bots)
    assert drafts.credentials_of(kept, scene.ctx.keys) == {"telegram": {"telegram_bot_token": TOKEN}}
    scene.ctx.clock.advance(drafts.OPEN_LIFE - timedelta(minutes=1))
    with scene.ctx.db.tx() as db:
        drafts.sweep(db, scene.ctx.clock.now())
    assert row(scene, owner) is not None
    scene.ctx.clock.advance(timedelta(minutes=2))
    with scene.ctx.db.tx() as db:
        drafts.sweep(db, scene.ctx.clock.now())
    assert row(scene, owner) is None


def test_secrets_are_dropped_and_words_stay(scene: Scene) -> None:
    owner = begin(scene, "monthly")
    onboarding.put_key(scene.ctx, owner, KEY, "")
    with scene.ctx.db.tx() as db:
        assert drafts.drop_secrets(db, owner.account.id, scene.ctx.clock.now()) == ["the model key"]
        assert drafts.drop_secrets(db, "acc_nobody", scene.ctx.clock.now()) == []
    kept = row(scene, owner)
    assert kept is not None
    assert (kept.name, kept.key_sealed) == ("Ada", None)
    with scene.ctx.db.tx() as db:
        erasure.erase(db, owner.account.id)
    assert row(scene, owner) is None
