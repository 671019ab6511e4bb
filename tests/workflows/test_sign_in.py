"""Sign-in links by mail, with the limits that hold behind every door."""

from __future__ import annotations

from datetime import timedelta

from fastapi.testclient import TestClient

from clawhaven.api.app import create_app
from clawhaven.workflows import sign_in
from tests.workflows.scene import Scene


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
