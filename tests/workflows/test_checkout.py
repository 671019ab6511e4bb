"""Signing up: everything or nothing, and never more than there is room for."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from clawhaven.core.errors import AppError, AtCapacity, Conflict, Unavailable
from clawhaven.ports.errors import ProviderError
from clawhaven.workflows import checkout
from tests.workflows.scene import TOKEN, Scene


def attempt(scene: Scene, email: str, token: str | None = None) -> str:
    try:
        scene.sign_up(email, token)
    except AppError as error:
        return error.error_code
    return "ok"


def test_ten_people_for_three_places(scene: Scene) -> None:
    scene.ctx.settings.max_customers = 3
    with ThreadPoolExecutor(10) as pool:
        said = list(pool.map(lambda number: attempt(scene, f"c{number}@example.com"), range(10)))
    assert sorted(said) == ["at_capacity"] * 7 + ["ok"] * 3
    assert scene.count("user_account") == scene.count("instance") == scene.count("checkout") == 3


def test_ten_people_with_one_bot(scene: Scene) -> None:
    with ThreadPoolExecutor(10) as pool:
        said = list(pool.map(lambda number: attempt(scene, f"c{number}@example.com", TOKEN), range(10)))
    assert sorted(said) == ["bot_in_use"] * 9 + ["ok"]
    assert scene.count("user_account") == scene.count("channel_connection") == scene.count("notice") == 1


def test_ten_tabs_of_one_person(scene: Scene) -> None:
    with ThreadPoolExecutor(10) as pool:
        said = list(pool.map(lambda _: attempt(scene, "ada@example.com"), range(10)))
    assert sorted(said) == ["already_exists"] * 9 + ["ok"]
    assert scene.count("instance") == scene.count("login_session") == scene.count("notice") == 1


def test_an_unpaid_draft_holds_its_place_for_an_hour_and_is_served_when_paid_later(scene: Scene) -> None:
    scene.ctx.settings.max_customers = 1
    late = scene.sign_up("late@example.com")
    with pytest.raises(AtCapacity):
        scene.sign_up("next@example.com")
    scene.ctx.clock.advance(checkout.DRAFT_LIFE + timedelta(seconds=1))
    scene.sign_up("next@example.com")
    assert scene.pay(late) == "paid"
    assert scene.instance(late.instance.id).state == "provisioning"
    with scene.ctx.db.read() as db:
        assert checkout.free_places(db, scene.ctx) == -1


def test_the_page_is_made_once_also_by_many_at_once(scene: Scene) -> None:
    begun = scene.sign_up()
    with scene.ctx.db.tx() as db:
        db.get_one(type(begun.checkout), begun.checkout.id).reference = None
    with ThreadPoolExecutor(6) as pool:
        pages = list(pool.map(lambda _: checkout.page_for(scene.ctx, begun.checkout.id), range(6)))
    assert len({(page.reference, page.url) for page in pages}) == 1


def test_a_page_is_not_made_again_for_what_is_over(scene: Scene) -> None:
    begun = scene.sign_up()
    scene.pay(begun)

    class NoMorePayments:
        def create_checkout(self, request: object) -> None:
            raise ProviderError("asked for a page of something paid")

    ctx = dataclasses.replace(scene.ctx, payments={"sandbox": NoMorePayments()})  # type: ignore[dict-item]
    assert checkout.page_for(ctx, begun.checkout.id).state == "completed"


def test_a_second_assistant_needs_a_plan_that_has_room(scene: Scene) -> None:
    begun = scene.sign_up()
    form = checkout.Form("Bea", "", "personal", "personal", {})
    with pytest.raises(Conflict) as caught:
        checkout.add_instance(scene.ctx, begun.owner, form)
    assert caught.value.error_code == "plan_limit"
    assert scene.count("instance") == 1


def test_the_model_of_a_new_assistant(scene: Scene) -> None:
    assert checkout.default_model(scene.ctx) == "sandbox-1"
    scene.ctx.settings.default_model = "claude-sonnet-5-5"
    assert checkout.default_model(scene.ctx) == "claude-sonnet-5-5"
    scene.ctx.settings.default_model = ""
    with pytest.raises(Unavailable, match="ANTHROPIC_API_KEY"):
        checkout.default_model(dataclasses.replace(scene.ctx, upstreams={}))
