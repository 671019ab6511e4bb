"""The page with every component; production has none."""

from __future__ import annotations

import re

from clawhaven.context import Context
from clawhaven.web.render import HERE, TEMPLATES
from tests.web.conftest import Visit


def test_every_component_is_on_it(visit: Visit) -> None:
    source = (HERE / "templates" / "style.html").read_text()
    framing = {
        "foot",
        "brand_link",
        "place_list",
        "account_menu",
        "theme_switch",
        "language_switch",
        "toasts",
        "on",
        "mail",
        "strong",
        "kbd",
        "calls_table",
        "standing",
        "price_tag",
        "plan_facts",
    }
    framing |= {"view_banner", "trial", "wizard_steps"}  # a frame's, and parts with ids of one page alone
    inner = {"hint_line", "error_line", "state", "action", "channel_fields", "more"}
    missing = [
        name for name in vars(TEMPLATES.globals["ui"]) if f"ui.{name}(" not in source and name not in framing | inner
    ]
    assert not missing, "show it in templates/style.html"
    page = visit.get("/dev/style")
    assert page.status_code == 200
    assert page.text.count("<h1") == 1
    assert not re.search(r"\sstyle=|\son\w+=", page.text)


def test_production_has_none(ctx: Context) -> None:
    visit = Visit(ctx)
    visit.http.app.state.ctx.settings.environment = "production"
    assert visit.get("/dev/style").status_code == 404
