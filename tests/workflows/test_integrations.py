"""Connected, attached, read, lapsed, disconnected: with a Google that is strict and sometimes away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, cast

import pytest
import sqlalchemy as sa

from clawhaven.accounts import links, signup
from clawhaven.core.errors import AppError, Conflict, NotFound, Unauthorized, Unavailable
from clawhaven.integrations import attachments, connected
from clawhaven.integrations.models import IntegrationAttachment
from clawhaven.notices.models import Notice
from clawhaven.providers.integrations.google import Google
from clawhaven.worker import working
from clawhaven.workflows import deletion, engine, files, integrations, reading, sign_in
from tests.fakes.google_server import CALENDAR, GMAIL, GoogleServer
from tests.workflows.scene import Begun, Scene, set_up

ACTOR = "user:usr_test"
TABLES = ("integration", "integration_attempt", "integration_attachment", "integration_revocation")


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleServer]:
    with GoogleServer() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server


@pytest.fixture
def scene(google: GoogleServer, settings: Any, clock: Any) -> Iterator[Scene]:
    with set_up(settings, clock) as made:
        google.return_url = integrations.return_url(made.ctx, "google")
        yield made


def come_back(scene: Scene, google: GoogleServer, account_id: str, *scopes: str, session: str | None = "ses_1") -> Any:
    """Through the consent page, and back with what it gave."""
    url = integrations.begin(scene.ctx, "google", account_id, session, ACTOR, "/settings/integrations")
    back = google.allow(url, *scopes)
    return integrations.complete(scene.ctx, "google", account_id, session, back["state"], back["code"], ACTOR)[0]


def attach(scene: Scene, begun: Begun) -> str:
    """Attached, and its gateway's files written; returns the gateway's token."""
    with scene.ctx.db.tx() as db:
        assert integrations.attach(db, scene.ctx, begun.instance.id, "google", ACTOR)
        scene_done(db, begun)
    files.apply_config(scene.ctx, begun.instance.id)
    with scene.ctx.db.read() as db:
        return attachments.token_of(attachments.list_of(db, begun.instance.id)[0], scene.ctx.keys)


def scene_done(db: Any, begun: Begun) -> None:
    """No worker runs here: what is waiting counts as done."""
    db.execute(sa.text("UPDATE operation SET state = 'done' WHERE instance_id = :id"), {"id": begun.instance.id})


def use(scene: Scene, token: str, tool: str, **arguments: Any) -> reading.Result:
    return reading.use(scene.ctx, reading.recognise(scene.ctx, "google", token), tool, arguments)


def config_of(scene: Scene, begun: Begun) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((scene.world.root / begun.instance.id / "state" / "openclaw.json").read_text())
    return found


def letters(scene: Scene, kind: str) -> int:
    with scene.ctx.db.read() as db:
        return db.scalar(sa.select(sa.func.count()).select_from(Notice).where(Notice.kind == kind)) or 0


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Revocations are repeated at once, and given up soon."""
    for name, value in (("WAITS", (0.1,)), ("TOLD_AFTER", 1), ("DROPPED_AFTER", 2)):
        monkeypatch.setattr(integrations, name, value)


def refused(call: Any, kind: type[AppError], code: str) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert caught.value.error_code == code


def test_an_attached_assistant_reads_with_a_token_that_stays_here(scene: Scene, google: GoogleServer) -> None:
    ada = scene.live()
    google.add_message("18a1", "Lunch", "Shall we eat?")
    row = come_back(scene, google, ada.instance.account_id)
    assert (row.address, connected.scopes_of(row)) == (google.address, {GMAIL, CALENDAR})
    token = attach(scene, ada)
    found = use(scene, token, "mail_search", query="lunch")
    assert not found.is_error
    assert found.text.startswith("From the owner's Google account. Others wrote")
    assert "Subject: Lunch" in found.text
    config = config_of(scene, ada)
    assert config["mcp"]["servers"]["google"]["headers"] == {"$include": "./integrations/google.json"}
    assert "google__*" in config["tools"]["alsoAllow"]
    header = json.loads((scene.world.root / ada.instance.id / "state" / "integrations" / "google.json").read_text())
    assert header == {"Authorization": f"Bearer {token}"}
    held = "".join(path.read_text() for path in scene.world.root.rglob("*") if path.is_file())
    with scene.ctx.db.read() as db:
        held += "".join(repr(db.execute(sa.text(f"SELECT * FROM {table}")).all()) for table in TABLES)
    assert google.secrets_given
    assert not [secret for secret in google.secrets_given if secret in held]


def test_an_expired_access_is_refreshed_by_us(scene: Scene, google: GoogleServer) -> None:
    ada = scene.live()
    come_back(scene, google, ada.instance.account_id)
    token = attach(scene, ada)
    scene.ctx.clock.advance(timedelta(hours=2))
    assert not use(scene, token, "calendar_events").is_error
    assert len(google.called("/token")) == 2
    assert not use(scene, token, "calendar_events").is_error
    assert len(google.called("/token")) == 2
    google.access.clear()  # Google forgot an access token before its time
    assert not use(scene, token, "calendar_events").is_error
    assert len(google.called("/token")) == 3


def test_a_withdrawn_permission_is_told_once_and_mended_by_connecting_again(scene: Scene, google: GoogleServer) -> None:
    ada = scene.live()
    come_back(scene, google, ada.instance.account_id)
    token = attach(scene, ada)
    google.withdraw()
    for _ in range(3):
        found = use(scene, token, "mail_search")
        assert found.is_error
        assert "/settings/integrations" in found.text
    assert letters(scene, "integration_lapsed") == 1
    calls = len(google.calls)
    assert use(scene, token, "mail_search").is_error
    assert len(google.calls) == calls  # Google is not asked about what is dead
    come_back(scene, google, ada.instance.account_id)
    assert not use(scene, token, "mail_search").is_error  # the gateway's own token has stayed


def test_what_google_says_never_reaches_the_gateway_as_a_refusal(
    scene: Scene, google: GoogleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "USES_PER_MINUTE", 5)
    ada = scene.live()
    come_back(scene, google, ada.instance.account_id, CALENDAR)
    token = attach(scene, ada)
    reader = reading.recognise(scene.ctx, "google", token)
    assert [tool.name for tool in reading.list_tools(reader)] == ["calendar_events"]
    google.api_answer = (403, {"error": {"errors": [{"reason": "accessNotConfigured"}]}})
    for _ in range(2):
        assert "operator is told" in use(scene, token, "calendar_events").text
    assert letters(scene, "alert") == 1
    google.is_down = True
    assert "did not answer" in use(scene, token, "calendar_events").text
    google.is_down, google.api_answer = False, None
    while not (found := use(scene, token, "calendar_events")).is_error:
        pass
    assert "Too many questions" in found.text


def test_only_who_began_may_come_back_and_only_once(scene: Scene, google: GoogleServer) -> None:
    ada, bob = scene.live(), scene.live("bob@example.com")
    mine, ctx = ada.instance.account_id, scene.ctx
    back = google.allow(integrations.begin(ctx, "google", mine, "ses_1", ACTOR, "/"))

    def end(account_id: str, session: str | None, code: str = back["code"], state: str = back["state"]) -> Any:
        return integrations.complete(ctx, "google", account_id, session, state, code, ACTOR)

    refused(lambda: end(bob.instance.account_id, "ses_1"), Conflict, "stale_consent")
    refused(lambda: end(mine, "ses_2"), Conflict, "stale_consent")
    refused(lambda: end(mine, "ses_1", state="x" * 43), Conflict, "stale_consent")
    assert end(mine, "ses_1")[0].account_id == mine
    refused(lambda: end(mine, "ses_1"), Conflict, "stale_consent")
    back = google.allow(integrations.begin(ctx, "google", mine, None, ACTOR, "/"))
    refused(lambda: end(mine, "ses_9", "", back["state"]), Conflict, "consent_denied")
    back = google.allow(integrations.begin(ctx, "google", mine, "ses_1", ACTOR, "/"))
    ctx.clock.advance(timedelta(minutes=31))
    refused(lambda: end(mine, "ses_1", back["code"], back["state"]), Conflict, "stale_consent")
    assert not [call for call in google.called("/token") if "refresh" in call.form["grant_type"]]


def test_nothing_ticked_connects_nothing_and_is_given_back(scene: Scene, google: GoogleServer) -> None:
    ada = scene.live()
    with pytest.raises(AppError) as caught:
        come_back(scene, google, ada.instance.account_id, "openid")
    assert caught.value.error_code == "no_permission"
    assert scene.count("integration") == 0
    with working(scene.ctx):
        scene.wait(lambda: scene.count("integration_revocation") == 0)
    assert [one.is_dead for one in google.permissions] == [True]


def test_disconnecting_reaches_gateways_and_google_however_long_it_is_away(
    scene: Scene, google: GoogleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(integrations, "WAITS", (0.2,))
    ada, ctx = scene.live(), scene.ctx
    come_back(scene, google, ada.instance.account_id)
    token = attach(scene, ada)
    google.is_down = True
    with ctx.db.tx() as db:
        integrations.disconnect(db, ctx, ada.instance.account_id, "google", ACTOR)
    with pytest.raises(Unauthorized):
        reading.recognise(ctx, "google", token)
    assert scene.count("integration") == 0
    files.apply_config(ctx, ada.instance.id)
    assert "google" not in json.dumps(config_of(scene, ada))
    assert (scene.world.root / ada.instance.id / "state" / "integrations" / "google.json").read_text() == "{}\n"
    with working(ctx):
        scene.wait(lambda: len(google.called("/revoke")) > 3)
        assert scene.count("integration_revocation") == 1
        google.is_down = False
        scene.wait(lambda: scene.count("integration_revocation") == 0)
    assert [one.is_dead for one in google.permissions] == [True]
    with ctx.db.tx() as db, pytest.raises(NotFound):
        integrations.disconnect(db, ctx, ada.instance.account_id, "google", ACTOR)


def test_vendors_that_are_away_hold_no_letter_up_and_are_told_of_once(
    scene: Scene, google: GoogleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch)
    ctx = scene.ctx
    for number in range(5):  # more than letters leave at a time
        google.subject = f"subject-{number}"
        account_id = scene.live(f"{number}@example.com").instance.account_id
        come_back(scene, google, account_id)
        with ctx.db.tx() as db:
            integrations.disconnect(db, ctx, account_id, "google", ACTOR)
    google.is_down = True
    with engine.running(ctx):
        scene.wait(lambda: len(google.called("/revoke")) > 5 * (integrations.DROPPED_AFTER + 2))
        assert scene.count("integration_revocation") == 5, "who does not answer is asked however long that takes"
        scene.wait(lambda: len(scene.mailbox.letters) == scene.count("notice"))
        google.is_down = False
        scene.wait(lambda: scene.count("integration_revocation") == 0)
    assert letters(scene, "alert") == 5


@pytest.mark.parametrize("trouble", ["refused", "unknown vendor", "broken"])
def test_a_refusal_is_not_asked_about_for_ever(
    scene: Scene, google: GoogleServer, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    hurry(monkeypatch)
    ada, ctx = scene.live(), scene.ctx
    come_back(scene, google, ada.instance.account_id)
    with ctx.db.tx() as db:
        integrations.disconnect(db, ctx, ada.instance.account_id, "google", ACTOR)
        [waiting] = connected.revocations_of(db, ada.instance.account_id)
    if trouble == "refused":
        google.revoke_answer = (403, {"error": "forbidden"})
    elif trouble == "unknown vendor":
        monkeypatch.delitem(cast(dict[str, Any], ctx.integrations), "google")
    else:
        monkeypatch.setattr(Google, "revoke", lambda *_: {}["surprise"])
    with engine.running(ctx):
        scene.wait(lambda: scene.count("integration_revocation") == 0)
    its_tries = f"workflow_uuid LIKE 'revoke_integration:{waiting.id}%'"
    assert scene.count("workflow_status", its_tries) == integrations.DROPPED_AFTER + 1
    assert scene.count("audit_log", "action = 'integration.unrevoked'") == letters(scene, "alert") == 1


def test_a_consent_that_was_fetched_and_not_kept_is_given_back(
    scene: Scene, google: GoogleServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(integrations, "WAITS", (0.2,))
    ada = scene.live()

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(connected, "connect", killed)
    with pytest.raises(KeyboardInterrupt):
        come_back(scene, google, ada.instance.account_id)
    assert (scene.count("integration"), scene.count("integration_revocation")) == (0, 1)
    scene.ctx.clock.advance(integrations.UNKEPT)
    with working(scene.ctx):
        scene.wait(lambda: scene.count("integration_revocation") == 0)
    assert [one.is_dead for one in google.permissions] == [True]


def test_a_revocation_on_its_way_does_not_end_what_is_connected_anew(scene: Scene, google: GoogleServer) -> None:
    ada, ctx = scene.live(), scene.ctx
    account_id = ada.instance.account_id
    come_back(scene, google, account_id)
    with ctx.db.tx() as db:
        integrations.disconnect(db, ctx, account_id, "google", ACTOR)
        [waiting] = connected.revocations_of(db, account_id)
    back = google.allow(integrations.begin(ctx, "google", account_id, None, ACTOR, "/"))

    def end() -> Any:
        return integrations.complete(ctx, "google", account_id, None, back["state"], back["code"], ACTOR)

    calls = len(google.called("/token"))
    refused(end, Conflict, "being_disconnected")  # it may have been read, and be on its way to Google
    with ctx.db.read() as db:
        assert connected.is_held(db, waiting.id, ctx.clock.now())  # and is not sent from now on
    ctx.clock.advance(connected.SENDING - timedelta(seconds=1))
    refused(end, Conflict, "being_disconnected")
    assert len(google.called("/token")) == calls
    ctx.clock.advance(timedelta(seconds=1))
    assert end()[0].account_id == account_id
    assert scene.count("integration_revocation") == 0
    with ctx.db.read() as db:
        assert connected.revocation_token(db, ctx.keys, waiting.id) is None


def test_one_permission_that_two_accounts_use_ends_with_the_last(scene: Scene, google: GoogleServer) -> None:
    ada, bob = scene.live(), scene.live("bob@example.com")
    for one in (ada, bob):
        come_back(scene, google, one.instance.account_id)
    with scene.ctx.db.tx() as db:
        integrations.disconnect(db, scene.ctx, ada.instance.account_id, "google", ACTOR)
    assert scene.count("integration_revocation") == 0
    google.subject = "108000000000000000002"
    come_back(scene, google, bob.instance.account_id)  # another account at Google: the first is not used any more
    assert scene.count("integration_revocation") == 1
    google.subject = "108000000000000000001"
    come_back(scene, google, ada.instance.account_id)  # which would end with the revocation, so that is given up
    assert scene.count("integration_revocation") == 0


def test_a_deleted_account_is_forgotten_here_and_at_google(scene: Scene, google: GoogleServer) -> None:
    ada, ctx = scene.live(), scene.ctx
    account_id = ada.instance.account_id
    come_back(scene, google, account_id)
    attach(scene, ada)
    integrations.begin(ctx, "google", account_id, None, ACTOR, "/")
    with working(ctx):
        with ctx.db.tx() as db:
            owner = signup.owner_of(db, account_id)
            deletion.begin(db, ctx, owner, ACTOR)
        scene.wait(lambda: scene.count("audit_log", "action = 'account.deleted'") == 1)
    assert [scene.count(table) for table in TABLES] == [0, 0, 0, 0]
    assert [one.is_dead for one in google.permissions] == [True]


def test_what_a_stranger_connected_ends_with_the_owners_first_link(scene: Scene, google: GoogleServer) -> None:
    ada, ctx = scene.live(), scene.ctx
    come_back(scene, google, ada.instance.account_id)
    attach(scene, ada)
    with working(ctx):
        with ctx.db.tx() as db:
            token = links.issue(db, ada.owner.user.id, ctx.clock.now())
            sign_in.use_link(db, ctx, token)
        scene.wait(lambda: [one.is_dead for one in google.permissions] == [True])
    assert (scene.count("integration"), scene.count("integration_attachment")) == (0, 0)
    with ctx.db.read() as db:
        row = db.scalars(sa.select(Notice).where(Notice.kind == "bots_cut_off")).one()
    assert row.recipient == ada.owner.user.email


def test_what_is_not_connected_cannot_be_attached_and_a_pause_pauses_reading(
    scene: Scene, google: GoogleServer
) -> None:
    ada, ctx = scene.live(), scene.ctx
    with ctx.db.tx() as db, pytest.raises(Conflict) as caught:
        integrations.attach(db, ctx, ada.instance.id, "google", ACTOR)
    assert caught.value.error_code == "not_connected"
    come_back(scene, google, ada.instance.account_id)
    token = attach(scene, ada)
    with ctx.db.tx() as db:
        assert not integrations.attach(db, ctx, ada.instance.id, "google", ACTOR)
        db.execute(sa.text("UPDATE instance SET state = 'suspended'"))
    assert "paused" in use(scene, token, "mail_search").text
    with ctx.db.tx() as db:
        assert integrations.detach(db, ctx, ada.instance.id, "google", ACTOR)
        assert not integrations.detach(db, ctx, ada.instance.id, "google", ACTOR)
    with pytest.raises(Unauthorized):
        reading.recognise(ctx, "google", token)
    assert scene.count("audit_log", "action LIKE 'integration.%'") == 4


def test_an_installation_without_a_client_connects_nothing(
    google: GoogleServer, settings: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOOGLE_CLIENT_SECRET")
    monkeypatch.delenv("GOOGLE_CLIENT_ID")
    with set_up(settings, clock) as scene:
        ada = scene.sign_up()
        with pytest.raises(Unavailable) as caught:
            integrations.begin(scene.ctx, "google", ada.instance.account_id, None, ACTOR, "/")
        assert caught.value.error_code == "integration_off"
        with pytest.raises(NotFound):
            integrations.begin(scene.ctx, "dropbox", ada.instance.account_id, None, ACTOR, "/")


def test_a_gateways_token_opens_its_own_vendor_only(scene: Scene, google: GoogleServer) -> None:
    ada = scene.live()
    come_back(scene, google, ada.instance.account_id)
    token = attach(scene, ada)
    for vendor, shown in (("google", ""), ("google", token + "x"), ("gmail", token)):
        with pytest.raises(Unauthorized):
            reading.recognise(scene.ctx, vendor, shown)
    with scene.ctx.db.read() as db:
        assert token not in repr(db.execute(sa.select(sa.inspect(IntegrationAttachment).columns)).all())
