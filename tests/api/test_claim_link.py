"""A read-only key cannot become a bot's owner."""

from __future__ import annotations

from collections.abc import Callable

from fastapi.testclient import TestClient

from tests.workflows.scene import Scene


def test_the_claim_link_is_for_those_who_may_change_things(
    http: TestClient, scene: Scene, key_of: Callable[..., dict[str, str]]
) -> None:
    ada = scene.live()
    start = scene.connected(ada)
    path = f"/api/instances/{ada.instance.id}"
    for headers, is_shown in ((key_of(ada, "read"), False), (key_of(ada), True)):
        answers = [http.get(where, headers=headers) for where in (path, f"{path}/channels", "/api/instances")]
        assert [answer.status_code for answer in answers] == [200] * 3
        assert [start in answer.text for answer in answers] == [is_shown] * 3
        assert answers[1].json()["items"][0]["status"] == "waiting_for_owner"
