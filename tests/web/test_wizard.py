"""The steps from a name to an order: kept at once, tested at once, ordered once."""

from __future__ import annotations

import dataclasses
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest
from sqlalchemy import func, select

from clawhaven.accounts.signup import Owner, find_owner
from clawhaven.billing.models import Checkout
from clawhaven.context import Context
from clawhaven.instances import connections, drafts
from clawhaven.instances.models import Connection, Instance, OpenDraft
from clawhaven.metering.models import OwnKey
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import Capability
from clawhaven.web import examples
from tests.fakes.world import FolderRuntime
from tests.live.telegram_methods import Bot
from tests.live.telegram_server import TelegramServer
from tests.web.conftest import DRAFT, TOKEN, Visit, bring_to_life, draft, fill_in, order, token_in

KEY = "sk-sandbox-customers-1234"
WORDS = {name: DRAFT[name] for name in ("assistant_name", "persona", "custom_instructions")}
STEPS = ("assistant", "model", "channel", "skills", "review")


@pytest.fixture
def begun(visit: Visit) -> Visit:
    """Somebody who has chosen a plan and nothing else."""
    assert visit.post("/configure", email="new@example.com", plan="personal").status_code == 303
    return visit


def row(ctx: Context) -> OpenDraft:
    with ctx.db.read() as db:
        return db.scalars(select(OpenDraft)).one()


def count(ctx: Context, model: type[object]) -> int:
    with ctx.db.read() as db:
        return int(db.scalar(select(func.count()).select_from(model)) or 0)


def test_the_whole_way_leads_to_the_payment_page(visit: Visit, ctx: Context, bot: Bot) -> None:
    answer = order(visit, email="new@example.com", telegram_bot_token=TOKEN)
    assert answer.status_code == 303
    with ctx.db.read() as db:
        checkout, connection = db.scalars(select(Checkout)).one(), db.scalars(select(Connection)).one()
        instance = db.scalars(select(Instance)).one()
    assert answer.headers["location"] == checkout.url
    assert connection.bot_username == "ada_haven_bot"
    assert connections.credentials_of(connection, ctx.keys) == {"telegram_bot_token": TOKEN}
    assert (instance.name, instance.persona, instance.instructions) == tuple(WORDS.values())
    assert count(ctx, OpenDraft) == 0
    assert "Ada" in visit.get("/dashboard").text
    letters = visit.letters("new@example.com")
    assert len(letters) == 1
    assert f"/checkout/{checkout.id}" in letters[0]


def test_each_step_survives_leaving_and_going_back(begun: Visit, ctx: Context) -> None:
    assert begun.get("/configure").headers["location"] == "/configure/assistant"
    for later in ("model", "channel", "skills", "review"):  # nothing can be left out by its address
        assert begun.get(f"/configure/{later}").headers["location"] == "/configure/assistant"
    assert begun.post("/configure/assistant", **WORDS).headers["location"] == "/configure/model"
    assert begun.get("/configure").headers["location"] == "/configure/model"
    assert begun.post("/configure/model").headers["location"] == "/configure/channel"
    assert begun.post("/configure/channel").headers["location"] == "/configure/skills"
    assert begun.get("/configure").headers["location"] == "/configure/skills"
    assert begun.post("/configure/skills", skill_web_pages="1").headers["location"] == "/configure/review"
    page = begun.get("/configure/assistant").text
    assert 'value="Ada"' in page
    assert "Help me plan." in page
    for step in STEPS:
        assert f'href="/configure/{step}"' in page or step == "assistant"
    changed = begun.post("/configure/assistant", **{**WORDS, "assistant_name": "Bea"})
    assert changed.headers["location"] == "/configure/model"
    assert begun.get("/configure").headers["location"] == "/configure/review"
    assert "Is this Bea?" in begun.get("/configure/review").text


def test_a_mailed_link_on_another_browser_goes_on_at_the_step(begun: Visit, ctx: Context) -> None:
    begun.post("/configure/assistant", **WORDS)
    with ctx.db.read() as db:
        owner = find_owner(db, "new@example.com")
    assert owner is not None
    other = Visit(ctx)
    other.sign_in(owner)
    assert other.get("/configure").headers["location"] == "/configure/model"
    assert "Which model should Ada think with?" in other.get("/configure/model").text


def test_what_a_stranger_connected_before_the_first_link_is_forgotten(begun: Visit, ctx: Context, bot: Bot) -> None:
    begun.post("/configure", page="/configure/plan", plan="monthly")
    begun.post("/configure/assistant", **WORDS)
    assert begun.post("/configure/model/key", page="/configure/model", api_key=KEY).status_code == 303
    channel = {"page": "/configure/channel", "telegram_bot_token": TOKEN}
    assert begun.post("/configure/channel/telegram", **channel).status_code == 303
    with ctx.db.read() as db:
        owner = find_owner(db, "new@example.com")
    assert owner is not None
    Visit(ctx).sign_in(owner)
    kept = row(ctx)
    assert (kept.name, kept.bots, kept.key_sealed, kept.key_vendor) == ("Ada", {}, None, None)
    assert "@ada_haven_bot of the draft" in begun.letters("new@example.com")[-1]


def test_wrong_words_stand_beside_their_fields_and_nothing_is_lost(begun: Visit, ctx: Context) -> None:
    wrong = {"assistant_name": "<Ada>", "custom_instructions": "x" * 5001, "persona": "pirate"}
    page = begun.post("/configure/assistant", **wrong)
    assert page.status_code == 400
    for field in wrong:
        assert f'id="{field}-error"' in page.text, field
        assert f'href="#{field}"' in page.text, field
    assert 'value="&lt;Ada&gt;"' in page.text
    assert "x" * 5001 in page.text
    assert row(ctx).name == ""


@pytest.mark.parametrize("step", ["assistant", "model", "model/key", "channel/telegram", "review"])
def test_a_stale_form_changes_nothing_and_keeps_its_words(begun: Visit, ctx: Context, step: str) -> None:
    begun.post("/configure/assistant", **WORDS)
    words = {**WORDS, "assistant_name": "Bea", "api_key": KEY, "telegram_bot_token": TOKEN, "coupon": "HALF"}
    page = begun.http.post(f"/configure/{step}", data={"csrf": "0" * 64, **words})
    assert page.status_code == 403
    assert "please send it once more" in page.text
    if step in ("assistant", "review"):
        assert 'value="Bea"' in page.text or 'value="HALF"' in page.text
    assert KEY not in page.text
    assert TOKEN not in page.text
    kept = row(ctx)
    assert (kept.name, kept.bots, kept.key_sealed) == ("Ada", {}, None)
    assert count(ctx, Instance) == 0


def test_the_preview_follows_and_keeps_what_is_fine(begun: Visit, ctx: Context) -> None:
    csrf = token_in(begun.get("/configure/assistant").text)

    seen = ""

    def look(**words: str) -> dict[str, str | None]:
        answer = begun.http.post("/configure/assistant/preview", data={"csrf": csrf, "seen": seen, **WORDS, **words})
        assert answer.status_code == 200
        return cast(dict[str, str | None], answer.json())

    page = begun.get("/configure/assistant").text
    seen = page.split('name="seen" value="')[1].split('"')[0]
    made = look(assistant_name="Zoë", persona="custom", custom_instructions="Be <kind>.")
    assert "You are Zoë." in str(made["soul"])
    assert "Be <kind>." in str(made["soul"])
    assert row(ctx).name == "Zoë"
    late = look(assistant_name="Zo")
    assert "You are Zo," in str(late["soul"])
    assert (row(ctx).name, late["seen"]) == ("Zoë", made["seen"]), "what comes late is shown and not kept"
    seen = str(late["seen"])
    assert look(assistant_name="") == {"soul": None, "user": None, "seen": seen}
    assert row(ctx).name == "Zoë"
    page = begun.get("/configure/assistant").text
    assert "Be &lt;kind&gt;." in page
    assert begun.http.post("/configure/assistant/preview", data={"csrf": "0" * 64, **WORDS}).status_code == 403


def test_enter_goes_on_and_adds_no_example(begun: Visit) -> None:
    form = begun.get("/configure/assistant").text.split('action="/configure/assistant"')[1]
    first = form.split("<button")[1].split(">")[0]
    assert 'type="submit"' in first
    assert "name=" not in first, "the first button is what Enter presses"


def test_an_example_is_added_without_scripts_and_sends_nothing_on(begun: Visit, ctx: Context) -> None:
    example = examples.EXAMPLES[0]
    page = begun.post("/configure/assistant", **{**WORDS, "assistant_name": ""}, example=example.id)
    assert page.status_code == 200
    assert f"Help me plan.\n\n{example.words}" in page.text
    assert row(ctx).name == ""
    long = "x" * drafts.MAX_INSTRUCTIONS
    assert examples.add(long, example.id) == long
    assert examples.add("A", "nothing") == "A"
    assert examples.add(example.words, example.id) == example.words


def test_a_model_is_chosen_with_its_price_and_no_other(begun: Visit, ctx: Context) -> None:
    begun.post("/configure/assistant", **WORDS)
    page = begun.get("/configure/model").text
    assert re.search(r'<option value="sandbox-1" selected>sandbox-1: \$4.50 read, \$22.50 written', page)
    refused = begun.post("/configure/model", model="gpt-unknown")
    assert refused.status_code == 400
    assert 'id="model-error"' in refused.text
    assert begun.post("/configure/model", model="sandbox-1").status_code == 303
    assert row(ctx).model == "sandbox-1"


def test_an_own_key_is_tested_sealed_and_never_shown(begun: Visit, ctx: Context) -> None:
    begun.post("/configure", page="/configure/plan", plan="monthly")
    begun.post("/configure/assistant", **WORDS)
    assert "Go on without a key" in begun.get("/configure/model").text
    wrong = begun.post("/configure/model/key", page="/configure/model", api_key="sk-sandbox-")
    assert wrong.status_code == 400
    assert 'id="api_key-error"' in wrong.text
    good = begun.post("/configure/model/key", page="/configure/model", api_key=KEY)
    assert good.headers["location"] == "/configure/model?done=draft-key-kept"
    page = begun.get(good.headers["location"]).text
    assert "The key works." in page
    assert "<code>1234</code>" in page
    assert KEY not in page
    assert 'value="claude' not in page  # its vendor's models only
    kept = row(ctx)
    assert kept.key_sealed is not None
    assert KEY not in kept.key_sealed
    for path in ("/configure/model", "/configure/channel"):
        assert begun.post(path).status_code == 303
    assert "that ends in <code>1234</code>" in begun.get("/configure/review").text
    assert begun.post("/configure/review").status_code == 303
    with ctx.db.read() as db:
        key, instance = db.scalars(select(OwnKey)).one(), db.scalars(select(Instance)).one()
    assert (key.instance_id, key.upstream, key.hint) == (instance.id, "sandbox", "1234")
    assert instance.model == "sandbox-1"


def test_a_key_can_be_taken_back_and_left_out(begun: Visit, ctx: Context) -> None:
    begun.post("/configure", page="/configure/plan", plan="monthly")
    begun.post("/configure/assistant", **WORDS)
    begun.post("/configure/model/key", page="/configure/model", api_key=KEY)
    assert begun.post("/configure/model/key/remove", page="/configure/model").status_code == 303
    assert row(ctx).key_sealed is None
    begun.post("/configure/model")
    begun.post("/configure/channel")
    assert "still missing" in begun.get("/configure/review").text
    assert begun.post("/configure/review").status_code == 303
    assert count(ctx, OwnKey) == 0


def test_a_key_of_ones_own_is_for_plans_that_use_it(begun: Visit, ctx: Context) -> None:
    begun.post("/configure/assistant", **WORDS)
    assert 'name="api_key"' not in begun.get("/configure/model").text
    refused = begun.post("/configure/model/key", page="/configure/model", api_key=KEY)
    assert refused.status_code == 409
    assert "comes with the model" in refused.text


def test_a_bot_is_asked_for_at_once_and_can_be_taken_back(begun: Visit, ctx: Context, bot: Bot) -> None:
    begun.post("/configure/assistant", **WORDS)
    path, page = "/configure/channel/telegram", "/configure/channel"
    malformed = begun.post(path, page=page, telegram_bot_token="secret-but-wrong")
    assert malformed.status_code == 400
    assert 'id="telegram_bot_token-error"' in malformed.text
    assert "secret-but-wrong" not in malformed.text
    unknown = begun.post(path, page=page, telegram_bot_token="987654321:" + "B" * 35)
    assert unknown.status_code == 400
    assert "Telegram does not accept this token" in unknown.text
    assert "Skip for now" in unknown.text
    good = begun.post(path, page=page, telegram_bot_token=TOKEN)
    assert good.headers["location"] == "/configure/channel?done=bot-kept"
    shown = begun.get(good.headers["location"]).text
    assert "@ada_haven_bot" in shown
    assert TOKEN not in shown
    assert TOKEN not in str(row(ctx).bots)
    assert "@ada_haven_bot" in begun.get("/configure/review").text
    assert begun.post(f"{path}/remove", page=page).status_code == 303
    assert row(ctx).bots == {}


def test_the_bots_step_is_german_for_a_german(begun: Visit, mine: Visit, ctx: Context, bot: Bot) -> None:
    draft(mine, telegram_bot_token=TOKEN)
    begun.post("/configure/assistant", **WORDS)
    begun.http.headers["accept-language"] = "de"
    path, page = "/configure/channel/telegram", "/configure/channel"
    assert "Telegram: Bot-Token" in begun.get(page).text
    malformed = begun.post(path, page=page, telegram_bot_token="not a token")
    assert "Bot-Token: Öffne @BotFather in Telegram" in malformed.text
    unknown = begun.post(path, page=page, telegram_bot_token="987654321:" + "B" * 35)
    assert "Telegram nimmt dieses Token nicht an" in unknown.text
    taken = begun.post(path, page=page, telegram_bot_token=TOKEN)
    assert "@ada_haven_bot dient schon einem anderen Assistenten" in taken.text
    for answer in (malformed, unknown, taken):
        assert not [words for words in ("Open @BotFather", "does not accept", "already serves") if words in answer.text]


def test_a_bot_that_serves_already_is_refused_with_a_sentence(
    begun: Visit, mine: Visit, ctx: Context, bot: Bot
) -> None:
    draft(mine, telegram_bot_token=TOKEN)
    begun.post("/configure/assistant", **WORDS)
    page = begun.post("/configure/channel/telegram", page="/configure/channel", telegram_bot_token=TOKEN)
    assert page.status_code == 409
    assert "already serves another assistant" in page.text
    assert 'id="telegram_bot_token-error"' in page.text


def test_a_bot_taken_meanwhile_is_told_at_the_end_with_the_way_back(
    begun: Visit, mine: Visit, ctx: Context, bot: Bot
) -> None:
    fill_in(mine, telegram_bot_token=TOKEN)
    begun.post("/configure/assistant", **WORDS)
    begun.post("/configure/channel/telegram", page="/configure/channel", telegram_bot_token=TOKEN)
    assert mine.post("/configure/review").status_code == 303
    late = begun.post("/configure/review")
    assert late.status_code == 409
    assert "already serves another assistant" in late.text
    assert 'href="/configure/channel"' in late.text
    assert (count(ctx, Instance), count(ctx, OpenDraft)) == (1, 1)


def test_telegram_that_is_down_keeps_nobody(begun: Visit, ctx: Context, telegram: TelegramServer) -> None:
    begun.post("/configure/assistant", **WORDS)
    channel = ctx.channels["telegram"]

    class SilentTelegram:
        name, label, fields = channel.name, channel.label, channel.fields

        def probe(self, _credentials: object) -> None:
            raise ProviderError("no answer", code="telegram_down")

    silent = Visit(dataclasses.replace(ctx, channels=cast(Any, {"telegram": SilentTelegram()})))
    silent.http.cookies.update(begun.http.cookies)
    page = silent.post("/configure/channel/telegram", page="/configure/channel", telegram_bot_token=TOKEN)
    assert page.status_code == 503
    assert "leave it out and connect it later" in page.text
    assert silent.post("/configure/channel").headers["location"] == "/configure/skills"


def test_an_order_is_made_once_however_often_it_is_sent(mine: Visit, ctx: Context) -> None:
    fill_in(mine)
    csrf = token_in(mine.get("/configure/review").text)

    def send(_number: int) -> int:
        one = Visit(ctx)
        one.http.cookies.update(mine.http.cookies)
        return one.http.post("/configure/review", data={"csrf": csrf}).status_code

    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(send, range(4)))
    assert said.count(303) >= 1
    assert set(said) <= {303, 409}
    assert (count(ctx, Instance), count(ctx, Checkout), count(ctx, OpenDraft)) == (1, 1, 0)


def test_back_from_the_payment_page_leads_to_what_waits_for_it(mine: Visit, ctx: Context) -> None:
    instance_id = draft(mine)
    for step in STEPS:
        assert mine.get(f"/configure/{step}").headers["location"] == f"/deploying/{instance_id}"
    again = mine.http.post("/configure/review", data={"csrf": token_in(mine.get("/configure").text)})
    assert again.headers["location"] == f"/deploying/{instance_id}"
    assert "Finish the payment" in mine.get(f"/deploying/{instance_id}").text


def test_without_a_draft_every_step_leads_to_the_beginning(mine: Visit, visit: Visit) -> None:
    for step in STEPS:
        assert mine.get(f"/configure/{step}").headers["location"] == "/configure"
        assert visit.get(f"/configure/{step}").headers["location"] == f"/sign-in?next=/configure/{step}"


def test_a_plan_with_room_is_built_at_once(mine: Visit, ctx: Context, world: FolderRuntime) -> None:
    first = draft(mine, plan="metered")
    bring_to_life(ctx, world, first)
    fill_in(mine, plan="metered", assistant_name="Bea")
    page = mine.get("/configure/review").text
    assert "Your plan has room for it" in page
    assert "Continue to payment" not in page
    poor = mine.post("/configure/review")
    assert poor.status_code == 402
    assert "Top up first" in poor.text


def test_an_unknown_coupon_is_told_at_its_field(mine: Visit, ctx: Context) -> None:
    page = order(mine, coupon="NOTHING")
    assert page.status_code == 400
    assert 'id="coupon-error"' in page.text
    assert 'value="NOTHING"' in page.text
    assert count(ctx, Instance) == 0


def test_a_vendor_that_is_down_loses_nothing(ctx: Context) -> None:
    class DownVendor:
        name = "sandbox"
        capabilities = frozenset({Capability.SUBSCRIPTIONS})

        def create_checkout(self, _request: object) -> None:
            raise ProviderError("down", code="down")

    broken = Visit(dataclasses.replace(ctx, payments=cast(Any, {"sandbox": DownVendor()})))
    answer = order(broken, email="new@example.com")
    assert answer.status_code == 303
    assert "/checkout/cho_" in answer.headers["location"]
    page = broken.get(answer.headers["location"])
    assert page.status_code == 503
    assert "Nothing was charged" in page.text
    assert answer.headers["location"].removeprefix(ctx.settings.base_url) in page.text  # try again
    assert count(ctx, Instance) == 1


def test_a_stranger_sees_nothing_of_a_draft(begun: Visit, stranger: Visit, owner: Owner) -> None:
    begun.post("/configure/assistant", **{**WORDS, "assistant_name": "Secretive"})
    assert stranger.get("/configure/assistant").headers["location"] == "/configure"
    assert "Secretive" not in stranger.get("/configure").text
