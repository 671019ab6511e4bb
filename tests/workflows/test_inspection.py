"""What is looked at, and what it says when something is missing."""

from __future__ import annotations

import dataclasses

import sqlalchemy as sa

from clawhaven.workflows import inspection
from tests.workflows.scene import Scene


def test_a_whole_installation_is_well_and_what_is_missing_is_named(scene: Scene) -> None:
    checks = inspection.inspect(scene.ctx)
    found = {one.what: one for one in checks}
    assert {"database", "runtime folder", "disk", "plan personal", "prices"} <= found.keys()
    assert found["database"].is_ok
    begun = scene.sign_up()
    with scene.ctx.db.tx() as db:
        db.execute(sa.text("UPDATE instance SET plan = 'gone', model = 'nobody-sells-this'"))
    wrong = {one.what: one for one in inspection.inspect(scene.ctx) if not one.is_ok}
    assert {"plan gone", "model nobody-sells-this"} <= wrong.keys()
    assert "1 assistant(s)" in wrong["plan gone"].advice
    assert begun.instance.id not in str(wrong)


def test_no_secret_is_told(scene: Scene) -> None:
    settings = scene.ctx.settings
    told = str(inspection.inspect(dataclasses.replace(scene.ctx)))
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if hasattr(value, "get_secret_value") and value.get_secret_value():
            assert value.get_secret_value() not in told, name
