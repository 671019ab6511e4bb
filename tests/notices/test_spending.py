"""Letters about what is spent."""

from __future__ import annotations

from clawhaven.notices import spending


def test_letters_say_what_happened_and_what_to_do() -> None:
    paused = spending.automatic_paused("Haven", "Ada", "$0.60", "$0.50", "https://x/continue/t", "https://x/usage")
    for words in ("Ada", "$0.60", "another $0.50", "https://x/continue/t", "https://x/usage", "midnight UTC"):
        assert words in paused.text
    reached = spending.limit_reached("Haven", "Ada", "$5.00", "https://x/u")
    assert "$5.00" in reached.subject
    assert "https://x/u" in reached.text
    assert "all your assistants" in spending.limit_reached("Haven", "", "$5.00", "https://x/u").text
    spike = spending.spike("a@example.com", "$30.00", "2026-11-21 12:00", "$1.00", "https://x/admin")
    assert "a@example.com has spent $30.00" in spike.subject
    assert "$1.00" in spike.text
    differs = spending.invoice_differs("Anthropic", ["one", "two"], 3, "https://x/admin")
    assert "- one\n- two\n- … and 3 more" in differs.text
