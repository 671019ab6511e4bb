"""Markdown of customers and assistants as HTML of ours."""

from __future__ import annotations

import pytest

from clawhaven.web.preview import draw


def test_headings_lists_and_links() -> None:
    html = draw("# Title\n\n- one\n- [two](https://example.com)\n\n|a|\n|-|\n|b|")
    assert "<h3>Title</h3>" in html
    assert "<li>one</li>" in html
    assert 'href="https://example.com" rel="noopener noreferrer nofollow" target="_blank"' in html
    assert "<table>" in html


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[x](javascript:alert(1))",
        "[x](data:text/html;base64,PHNjcmlwdD4=)",
        "![x](https://evil.example/pixel.png)",
        '<https://a.example/"onmouseover="alert(1)>',
    ],
)
def test_nothing_of_it_runs_or_is_fetched(text: str) -> None:
    html = draw(text)
    for bad in ("<script", "<img", 'href="javascript', 'href="data', '"onmouseover'):
        assert bad not in html
