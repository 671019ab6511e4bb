"""Letters: each exactly once, given up in the end, never looped."""

from __future__ import annotations

import pytest

from clawhaven.notices import kinds
from clawhaven.ports.errors import ProviderError
from clawhaven.workflows import attempts, engine, letters
from tests.workflows.scene import Scene

AWAY = ProviderError("no answer", code="smtp_down")
REFUSED = ProviderError("no such mailbox", permanent=True, code="smtp_refused")


@pytest.fixture
def hurried(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Nothing waits between tries."""
    monkeypatch.setattr(attempts, "pause", lambda seconds: None)
    return scene


def post(scene: Scene, *keys: str) -> None:
    with scene.ctx.db.tx() as db:
        for key in keys:
            letters.post_to(db, scene.ctx, key, kinds.alert(f"about {key}", "text"), "a@example.com")


def run(scene: Scene) -> None:
    """Work until nothing is left."""
    with engine.running(scene.ctx):
        scene.wait(lambda: scene.count("notice", "state = 'pending'") == 0)


def test_the_same_letter_asked_for_many_times_is_sent_once(hurried: Scene) -> None:
    for _ in range(3):
        post(hurried, "one", "two", "one")
    run(hurried)
    assert sorted(letter.subject for letter in hurried.mailbox.letters) == ["about one", "about two"]
    assert hurried.count("notice", "state = 'sent' AND sealed_text = ''") == 2


def test_a_transaction_that_is_rolled_back_sends_nothing(hurried: Scene) -> None:
    def break_down() -> None:
        with hurried.ctx.db.tx() as db:
            letters.post_to(db, hurried.ctx, "never", kinds.alert("never", "text"), "a@example.com")
            raise LookupError

    with pytest.raises(LookupError):
        break_down()
    post(hurried, "after")
    run(hurried)
    assert [letter.subject for letter in hurried.mailbox.letters] == ["about after"]


@pytest.mark.parametrize(
    ("refusals", "state", "sent"),
    [
        ([AWAY] * 5, "sent", 1),
        ([AWAY] * 6, "failed", 0),
        ([REFUSED], "failed", 0),
        ([AWAY, REFUSED], "failed", 0),
    ],
    ids=["back in time", "away too long", "refused", "refused later"],
)
def test_giving_up(hurried: Scene, refusals: list[ProviderError], state: str, sent: int) -> None:
    hurried.mailbox.refusals = list(refusals)
    post(hurried, "one")
    run(hurried)
    assert hurried.count("notice", f"state = '{state}'") == 1
    assert len(hurried.mailbox.letters) == sent
    assert hurried.mailbox.refusals == []
    if state == "failed":
        assert hurried.count("notice", "last_error LIKE 'smtp_%'") == 1


def test_a_letter_to_a_customer_goes_to_their_address(hurried: Scene) -> None:
    begun = hurried.sign_up("ada@example.com")
    with hurried.ctx.db.tx() as db:
        letter = kinds.resumed("Brand", "Ada", "https://x.example")
        letters.post(db, hurried.ctx, "key", letter, begun.owner.account.id)
    run(hurried)
    assert {letter.to for letter in hurried.mailbox.letters} == {"ada@example.com"}
    assert len({letter.key for letter in hurried.mailbox.letters}) == 2
