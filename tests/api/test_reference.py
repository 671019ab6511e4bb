"""The page that shows the API to people."""

from __future__ import annotations

import re

import pytest
from fastapi.testclient import TestClient

from clawhaven.api import reference
from clawhaven.cli.hosting import Doors
from tests.workflows.scene import Scene


def test_every_operation_with_everything_it_takes_is_on_the_page(http: TestClient) -> None:
    answer = http.get("/api/docs")
    assert answer.headers["content-type"].startswith("text/html")
    page, document = answer.text, http.get("/api/openapi.json").json()
    operations = [(method, path) for path, calls in document["paths"].items() for method in calls]
    assert len(operations) > 25
    for method, path in operations:
        assert f"<h3><code>{method.upper()} {path}</code></h3>" in page
    for one in (one for group in reference.groups_of(document).values() for one in group):
        assert one.text
        section = page.split(f'id="{one.anchor}"')[1].split("</section>")[0]
        for field in one.fields:
            assert f"<code>{field.name}</code>" in section
    names = {field for schema in document["components"]["schemas"].values() for field in schema.get("properties", {})}
    assert {"telegram_bot_token", "custom_instructions", "scopes"} <= names
    assert all(f"<code>{name}</code>" in page for name in ("telegram_bot_token", "custom_instructions", "scopes"))
    anchors = re.findall(r' id="([^"]+)"', page)
    assert len(anchors) == len(set(anchors))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(anchors)


def test_the_page_needs_nothing_that_its_policy_forbids(scene: Scene) -> None:
    scene.ctx.settings.brand_name = "<b>Haven</b>"
    site = TestClient(Doors(scene.ctx), base_url=scene.ctx.settings.base_url)
    answer = site.get("/api/docs")
    policy, page = answer.headers["content-security-policy"], answer.text
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "script" not in policy
    for forbidden in ("<script", "<style", "style=", "onclick", "<b>Haven", "//cdn"):
        assert forbidden not in page
    assert "&lt;b&gt;Haven" in page
    loaded = re.findall(r'<link [^>]*href="([^"]+)"', page)
    assert loaded
    assert all(site.get(path).status_code == 200 for path in loaded)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "string", "maxLength": 20_000}, "string, at most 20,000 characters"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "string"),
        ({"type": "array", "items": {"type": "string"}}, "list of string"),
        ({"type": "integer", "minimum": 1, "maximum": 200}, "integer, 1 to 200"),
        ({"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}, "time, ISO 8601 with a zone"),
        ({}, "anything"),
    ],
)
def test_kinds_in_words(schema: dict[str, object], words: str) -> None:
    assert reference.kind_of(schema) == words
