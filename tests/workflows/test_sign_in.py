"""Sign-in links by mail, with the limits that hold behind every door."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from clawhaven.accounts import links, sessions, signup
from clawhaven.api.app import create_app
from clawhaven.core.languages import speaking
from clawhaven.instances import connections
from clawhaven.metering.models import OwnKey
from clawhaven.notices.models import Notice
from clawhaven.workflows import sign_in
from tests.workflows.scene import TOKEN, Scene


def test_a_known_address_gets_a_link_and_a_strange_one_nothing(scene: Scene) -> None:
    scene.sign_up("ada@example.com")
    with scene.ctx.db.tx() as db:
        assert sign_in.mail_link(db, scene.ctx, "ada@example.com") is True
        assert sign_in.mail_link(db, scene.ctx, "nobody@example.com") is False
    assert scene.count("sign_in_link") == scene.count("notice", "kind = 'sign_in'") == 1
    assert scene.count("notice", "recipient = 'nobody@example.com'") == 0


def test_nobodys_mailbox_is_filled_through_the_api(scene: Scene) -> None:
    scene.sign_up("ada@example.com")
    scene.sign_up("bea@example.com")
    now = scene.ctx.clock.now()
    scene.ctx.clock.advance(timedelta(seconds=3600 - now.timestamp() % 3600))  # the beginning of a window
    with TestClient(create_app(scene.ctx), base_url=scene.ctx.settings.base_url) as http:
        tries = sign_in.MAILS_PER_HOUR + 3
        answers = [http.post("/api/auth/link", json={"email": "ada@example.com"}) for _ in range(tries)]
        assert {(answer.status_code, answer.content) for answer in answers} == {(202, answers[0].content)}
        assert scene.count("sign_in_link") == sign_in.MAILS_PER_HOUR
        assert scene.count("notice", "kind = 'sign_in'") == sign_in.MAILS_PER_HOUR
        http.post("/api/auth/link", json={"email": "bea@example.com"})
        assert scene.count("sign_in_link") == sign_in.MAILS_PER_HOUR + 1
        scene.ctx.clock.advance(timedelta(hours=1))
        http.post("/api/auth/link", json={"email": "ada@example.com"})
        assert scene.count("sign_in_link") == sign_in.MAILS_PER_HOUR + 2


def use(scene: Scene, email: str, replaces: str = "") -> str:
    """The mailbox's owner opens a fresh link, in a browser with this cookie; returns the new one."""
    with scene.ctx.db.tx() as db:
        owner = signup.find_owner(db, email)
        assert owner is not None
        token = links.issue(db, owner.user.id, scene.ctx.clock.now())
        return sign_in.use_link(db, scene.ctx, token, replaces=replaces)


def bots(scene: Scene) -> int:
    return scene.count("channel_connection")


@pytest.mark.parametrize("is_live", [True, False])
def test_a_stranger_who_typed_the_address_leaves_no_bot_in_the_owners_account(scene: Scene, is_live: bool) -> None:
    begun = scene.sign_up("victim@example.com", token=TOKEN)
    assert begun.session
    if is_live:
        scene.pay(begun)
        scene.bring_up(begun.instance.id)
        with scene.ctx.db.tx() as db:
            (planted,) = connections.list_connections(db, begun.instance.id)
            assert connections.claim(db, planted.id, "666", "stranger", scene.ctx.clock.now())
    eve = scene.sign_up("eve@example.com")
    before = scene.count("operation", "kind = 'configure'")
    mine = use(scene, "victim@example.com", replaces=eve.session or "")
    with scene.ctx.db.read() as db:
        assert sessions.find_session(db, begun.session, scene.ctx.clock.now()) is None
        assert sessions.find_session(db, mine, scene.ctx.clock.now()) is not None
    assert bots(scene) == 0
    assert scene.count("operation", "kind = 'configure'") == before + int(is_live), "its gateway forgets the bot"
    assert scene.count("notice", "kind = 'bots_cut_off' AND recipient = 'victim@example.com'") == 1
    assert scene.count("audit_log", "action = 'channel.disconnect'") == 1
    # Whose bot it is may use it in an account of their own.
    scene.connected(eve)
    # From here on it is the owner's account: later links cut nothing.
    scene.connected(begun, "987654321:" + "B" * 35)
    use(scene, "victim@example.com")
    assert bots(scene) == 2
    assert scene.count("notice", "kind = 'bots_cut_off'") == 1


def test_who_opens_the_link_where_they_signed_up_keeps_their_bot(scene: Scene) -> None:
    begun = scene.sign_up("ada@example.com", token=TOKEN)
    use(scene, "ada@example.com", replaces=begun.session or "")
    assert bots(scene) == 1
    assert scene.count("notice", "kind = 'bots_cut_off'") == 0


def test_without_a_bot_nothing_is_cut_off_and_nobody_told(scene: Scene) -> None:
    scene.sign_up("ada@example.com")
    use(scene, "ada@example.com")
    assert scene.count("notice", "kind = 'bots_cut_off'") == 0


def test_a_strangers_model_key_does_not_stay_either(scene: Scene) -> None:
    begun = scene.sign_up("victim@example.com")
    with scene.ctx.db.tx() as db:
        now = scene.ctx.clock.now()
        key = OwnKey(instance_id=begun.instance.id, upstream="anthropic", sealed="v1.x", hint="1234", checked_at=now)
        db.add(key)
    use(scene, "victim@example.com")
    assert scene.count("own_key") == 0
    assert scene.count("notice", "kind = 'bots_cut_off'") == 1


def test_the_link_is_mailed_in_its_readers_language(scene: Scene) -> None:
    with speaking("de"):
        scene.sign_up("ada@example.com")
    scene.sign_up("bob@example.com")
    with scene.ctx.db.tx() as db:
        db.execute(sa.text("UPDATE user_account SET language = NULL WHERE email = 'bob@example.com'"))
    for language, email in (("en", "ada@example.com"), ("de", "bob@example.com")):
        with speaking(language), scene.ctx.db.tx() as db:
            assert sign_in.mail_link(db, scene.ctx, email)
    with scene.ctx.db.read() as db:
        subjects = set(db.scalars(sa.select(Notice.subject).where(Notice.kind == "sign_in")))
    assert subjects == {"Anmelden bei Clawhaven"}
