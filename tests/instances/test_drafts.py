"""What a customer types becomes a checked draft, or an answer that says what is wrong."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawhaven.core.errors import Invalid
from clawhaven.core.secrets import KeyRing
from clawhaven.instances import drafts
from clawhaven.instances.models import Instance
from tests.workflows.scene import Scene

PERSONAS = ["personal", "custom"]


@given(name=st.text(max_size=60), text=st.text(max_size=300))
def test_a_draft_is_clean_or_refused(name: str, text: str) -> None:
    try:
        draft = drafts.check_draft(name, "personal", text, PERSONAS)
    except Invalid as error:
        told = error.details["field"]
    else:
        told = "assistant_name"
        assert 1 <= len(draft.name) <= drafts.MAX_NAME
        assert draft.name == draft.name.strip()
        assert not set(draft.name) & set("<>{}\\/`$\n\t\0\u202e\u2066")
        assert drafts.check_draft(draft.name, "personal", draft.instructions, PERSONAS) == draft
        assert all(unicodedata.category(c) not in ("Cc", "Cs") or c in "\n\t" for c in draft.instructions)
        kept = [c for c in text if unicodedata.category(c)[0] not in "CZ"]
        assert kept == [c for c in draft.instructions if unicodedata.category(c)[0] not in "CZ"], "verbatim"
    assert told == "assistant_name"


@pytest.mark.parametrize(
    "name", ["", " ", "\u202e", "\u200b", "\u2066\u2069", "\u0301", "x" * 41, "a/b", "{{x}}", "$x"]
)
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        drafts.check_draft(name, "personal", "", PERSONAS)
    assert caught.value.details["field"] == "assistant_name"


@pytest.mark.parametrize("name", ["A", "Ada Lovelace", "O'Brien", "小助手", "👩‍🚀", "مساعد", "x" * 40])
def test_names_that_are(name: str) -> None:
    assert drafts.check_draft(name, "personal", "", PERSONAS).name == name


def test_the_turning_marks_go_and_the_words_stay() -> None:
    draft = drafts.check_draft("Ada\u202e gpj.exe\u202c", "personal", "  a\r\nb\tc  ", PERSONAS)
    assert (draft.name, draft.instructions) == ("Ada gpj.exe", "a\nb\tc")


@pytest.mark.parametrize("persona", ["", "Personal", "../custom", "custom/", "nobody"])
def test_personas_that_are_none(persona: str) -> None:
    with pytest.raises(Invalid, match="Personas are personal, custom") as caught:
        drafts.check_draft("Ada", persona, "", PERSONAS)
    assert caught.value.details["field"] == "persona"


def test_the_length_of_instructions() -> None:
    assert len(drafts.check_draft("Ada", "personal", "😀" * 5000, PERSONAS).instructions) == 5000
    with pytest.raises(Invalid, match="these have 5001"):
        drafts.check_draft("Ada", "personal", "x" * 5001, PERSONAS)


def test_every_assistant_has_a_host_name_and_secrets_of_its_own(scene: Scene) -> None:
    owner = scene.sign_up("ada@example.com").owner
    keys = KeyRing([b"k" * 32])
    draft = drafts.Draft("Ada", "personal", "")
    with scene.ctx.db.tx() as db:
        made = [
            drafts.create(
                db,
                owner.account.id,
                owner.account.slug,
                draft,
                plan="metered",
                model="m",
                runtime="folder",
                keys=keys,
                now=scene.ctx.clock.now(),
            )
            for _ in range(3)
        ]
    assert [one.slug for one in made] == ["ada-example-com-2", "ada-example-com-3", "ada-example-com-4"]
    opened = {keys.open(one.gateway_token, drafts.GATEWAY_PURPOSE) for one in made}
    opened |= {keys.open(one.proxy_key, drafts.PROXY_KEY_PURPOSE) for one in made}
    assert len(opened) == 6
    with scene.ctx.db.read() as db:
        assert db.get_one(Instance, made[0].id).state == "pending"
