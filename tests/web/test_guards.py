"""Headers on every answer, and a limit on bodies."""

from __future__ import annotations

import dataclasses
import gzip
import re
from typing import Any, cast

import pytest
from fastapi.testclient import TestClient

from clawhaven.context import Context
from clawhaven.web import pages
from clawhaven.web.app import create_app
from clawhaven.web.guards import MAX_BODY_BYTES, headers_for
from tests.web.conftest import Visit


@pytest.mark.parametrize("path", ["/", "/configure", "/nothing", "/dashboard", "/static/site.css", "/robots.txt"])
def test_every_answer_carries_the_headers(visit: Visit, path: str) -> None:
    headers = visit.get(path).headers
    policy = headers["content-security-policy"]
    for part in (
        "default-src 'none'",
        "script-src 'self';",
        "style-src 'self';",
        "manifest-src 'self';",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ):
        assert part in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_a_crash_carries_them_too_and_tells_nothing(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(_plans: object) -> None:
        raise LookupError("secret detail")

    monkeypatch.setattr(pages, "offers", crash)
    page = Visit(ctx).get("/")
    assert page.status_code == 500
    assert "secret detail" not in page.text
    assert "Something broke on our side" in page.text
    assert page.headers["content-security-policy"] == headers_for(ctx)["Content-Security-Policy"]


def test_signed_in_pages_are_kept_nowhere_and_static_files_for_good(mine: Visit) -> None:
    page = mine.get("/dashboard")
    assert page.headers["cache-control"] == "no-store"
    sheet = page.text.split('rel="stylesheet" href="')[1].split('"')[0]
    assert "immutable" in mine.get(sheet).headers["cache-control"]


def test_static_text_travels_packed(visit: Visit) -> None:
    for name in ("site.css", "site.js", "htmx.js"):
        plain = visit.get(f"/static/{name}?v=1", headers={"accept-encoding": "identity"})
        with visit.http.stream("GET", f"/static/{name}?v=1", headers={"accept-encoding": "gzip"}) as packed:
            raw = b"".join(packed.iter_raw())
        assert gzip.decompress(raw) == plain.content
        assert len(raw) < len(plain.content) / 2
        for answer in (plain, packed):
            assert answer.headers["vary"] == "Accept-Encoding"
            assert "immutable" in answer.headers["cache-control"]
        assert packed.headers["content-type"] == plain.headers["content-type"]
    assert visit.get("/static/nothing.css").status_code == 404


def test_the_landing_page_is_light(visit: Visit) -> None:
    page = visit.get("/")
    needed = re.findall(r'(?:src|href)="(/(?:static|brand)[^"]+)"', page.text)
    assert any("site.css" in path for path in needed)
    total = len(page.content)
    for path in set(needed):
        with visit.http.stream("GET", path, headers={"accept-encoding": "gzip"}) as packed:
            total += len(b"".join(packed.iter_raw()))
    assert total <= 100_000


def test_pages_hold_nothing_the_policy_forbids(mine: Visit, live: str) -> None:
    for path in ("/", "/configure", f"/instances/{live}", f"/instances/{live}/chat", "/usage"):
        html = mine.get(path).text
        assert "style=" not in html
        assert "<style" not in html
        assert "onclick" not in html
        assert "<script>" not in html
        assert 'src="http' not in html


def test_forms_may_end_at_the_vendors_page(ctx: Context) -> None:
    class FarVendor:
        checkout_origins = ("https://pay.example/x",)

    policy = headers_for(dataclasses.replace(ctx, payments=cast(Any, {"far": FarVendor()})))["Content-Security-Policy"]
    assert "form-action 'self' " in policy
    assert " https://pay.example;" in policy


def test_a_long_body_is_refused(visit: Visit) -> None:
    answer = visit.http.post("/configure", data={"custom_instructions": "x" * (MAX_BODY_BYTES + 1)})
    assert answer.status_code == 413
    assert "too long" in answer.text


def test_nothing_else_is_published(ctx: Context) -> None:
    client = TestClient(create_app(ctx))
    for path in ("/openapi.json", "/redoc", "/static/../app.py", "/static/"):
        assert client.get(path).status_code == 404
    assert "swagger" not in client.get("/docs").text  # the help, not a framework's pages
