"""Identifiers: unguessable, prefixed, safe as names; slugs are DNS labels."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from clawhaven.core.ids import new_id, new_token, slug


def test_ids_are_prefixed_unique_and_safe_everywhere() -> None:
    made = {new_id("ins") for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch(r"ins_[a-z2-7]{24}", one) for one in made)


def test_tokens_carry_their_prefix_and_256_bits() -> None:
    token = new_token("chk_")
    assert re.fullmatch(r"chk_[A-Za-z0-9_-]{43}", token)
    assert token != new_token("chk_")


def test_the_slug_of_the_specification() -> None:
    assert slug("user@example.com") == "user-example-com"
    assert slug("Zoë.Müller+x@Exämple.com") == "zoe-muller-x-example-com"


@given(st.text(max_size=400))
def test_every_slug_is_a_dns_label(text: str) -> None:
    assert re.fullmatch(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?", slug(text))
