"""The status page: what works, in words, and also when nothing else does."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, cast

from sqlalchemy.exc import OperationalError

from clawhaven.context import Context
from clawhaven.web import health
from clawhaven.workflows import condition
from tests.web.conftest import Visit
from tests.web.gallery import serving


def word_of(page: str, part: str) -> str:
    found = re.search(rf"<strong>{part}</strong>.*?<span class=\"badge\"[^>]*>([^<]+)</span>", page, re.S)
    assert found is not None, part
    return found.group(1)


def test_each_part_has_a_word(ctx: Context) -> None:
    with serving(ctx):
        page = Visit(ctx).get("/status")
    assert page.status_code == 200
    assert {word_of(page.text, part) for part in ("Website", "Database", "Way to the models", "Mails")} == {"Works"}
    assert word_of(page.text, "Building, pausing and other work") == "Down"  # no worker runs here
    assert "go on by themselves" in page.text
    assert "Something does not work" in page.text
    assert "Since" in page.text


def test_it_is_shown_without_a_database(ctx: Context) -> None:
    class Gone:
        def read(self) -> None:
            raise OperationalError("SELECT 1", None, OSError("at /secret/path"))

    visit = Visit(dataclasses.replace(ctx, db=cast(Any, Gone())))
    visit.http.cookies.set("clawhaven_session", "x")
    page = visit.get("/status")
    assert page.status_code == 200
    assert word_of(page.text, "Database") == "Down"
    assert "secret" not in page.text


def test_every_part_has_a_name(ctx: Context) -> None:
    assert {part.name for part in condition.look(ctx)} == set(health.NAMES)
