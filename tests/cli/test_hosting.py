"""The demo's people."""

from __future__ import annotations

import re

from clawhaven.accounts import apikeys, links, signup
from clawhaven.cli import hosting
from clawhaven.core.clock import Clock
from clawhaven.core.settings import Settings
from tests.workflows.scene import set_up


def test_the_demos_people_can_sign_in_and_use_a_key_at_every_start(settings: Settings, clock: Clock) -> None:
    with set_up(settings, clock) as scene:
        ctx = scene.ctx
        with ctx.db.tx() as db:  # somebody was quicker than the demo itself
            typed = signup.register(db, hosting.DEMO_USERS[0][0], ctx.clock.now())
        keys = []
        for _ in range(2):
            said = "\n".join(hosting.seed(ctx))
            key, operators_key = re.findall(r"API key of \S+: (chk_\S+)", said)
            keys.append(key)
            tokens = re.findall(r"/sign-in/(\S+)", said)
            with ctx.db.tx() as db:
                for token in tokens:
                    assert links.sign_in(db, token, ctx.clock.now(), days=7)
            assert len(tokens) == len(hosting.DEMO_USERS)
        with ctx.db.read() as db:
            people = [signup.find_owner(db, email) for email, _ in hosting.DEMO_USERS]
            assert [one.user.is_operator for one in people if one] == [False, True]
            assert all(one and one.user.verified_at for one in people)
            assert apikeys.find_key(db, keys[0]) is None
            found = apikeys.find_key(db, keys[1])
            assert found is not None
            assert found[0].user.id == typed.user.id
            assert found[1].scopes == "read write"
            found = apikeys.find_key(db, operators_key)
            assert found is not None
            assert (found[0].user.is_operator, found[1].scopes) == (True, "admin read write")
