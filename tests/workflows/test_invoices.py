"""An export is read, kept, compared, and told when it differs."""

from __future__ import annotations

import pytest

from clawhaven.core.errors import Invalid
from clawhaven.workflows import invoices
from tests.providers.upstreams.test_exporting import ANTHROPIC_COSTS, ANTHROPIC_TOKENS
from tests.workflows.scene import Scene


def test_what_differs_is_told_once(scene: Scene) -> None:
    for _ in range(2):
        found = invoices.import_export(scene.ctx, "anthropic", "usage.csv", ANTHROPIC_TOKENS, "user:op")
        assert (found.lines, found.since, found.until) == (2, "2026-11-20", "2026-11-21")
        assert [one.is_off for one in found.compared] == [True, True]
    assert scene.count("notice", "key LIKE 'vendor-usage:anthropic:%'") == 1
    assert scene.count("audit_log", "action = 'usage.import'") == 2
    invoices.import_export(scene.ctx, "anthropic", "costs.csv", ANTHROPIC_COSTS, "user:op")
    assert scene.count("notice", "key LIKE 'vendor-usage:anthropic:%'") == 2
    lines = invoices.compare(scene.ctx, "2026-11-20", "2026-11-20", None)
    assert [(one.model, one.theirs.cost_micros) for one in lines] == [
        ("claude-sonnet-4-5", 1_500_001),
        ("web_search", 100_000),
    ]


@pytest.mark.parametrize(
    ("vendor", "text", "field"),
    [("nobody", "", "vendor"), ("sandbox", "", "vendor"), ("anthropic", "hello", "content")],
)
def test_what_cannot_be_read_is_refused(scene: Scene, vendor: str, text: str, field: str) -> None:
    with pytest.raises(Invalid) as refused:
        invoices.import_export(scene.ctx, vendor, "x.csv", text, "user:op")
    assert refused.value.details["field"] == field
    assert scene.count("vendor_usage") == 0
