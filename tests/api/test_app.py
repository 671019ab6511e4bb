"""The whole API against its own description."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.generation.modes import GenerationMode
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from clawhaven.api.app import create_app
from clawhaven.ports.model import Question
from tests.api.conftest import assert_error
from tests.workflows.scene import Scene


class Echo:
    """A model that is there: the installation's own proxy does not run here."""

    def say(self, key: str, question: Question) -> Iterator[str]:
        yield "Hello."

    def answers(self) -> bool:
        return True


CHECKS = [not_a_server_error, status_code_conformance, response_schema_conformance]


@pytest.mark.parametrize("is_signed_in", [True, False], ids=["with a key", "anonymous"])
def test_every_operation_survives_whatever_it_is_sent(
    scene: Scene, key_of: Callable[..., dict[str, str]], is_signed_in: bool
) -> None:
    begun = scene.live()
    scene.connected(begun)
    app = create_app(dataclasses.replace(scene.ctx, model=Echo()))
    config = schemathesis.Config.from_dict({"generation": {"allow-x00": True}})
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", app, config=config)
    headers = key_of(begun) if is_signed_in else {}
    operations: list[Any] = [found.ok() for found in schema.get_all_operations()]  # type: ignore[union-attr]
    assert len(operations) > 25
    for operation in operations:
        if operation.label in ("DELETE /api/instances/{instance_id}", "DELETE /api/auth/keys/{key_id}"):
            continue  # what the others need would be gone; test_instances sends those
        hit = 0

        @given(operation.as_strategy(generation_mode=GenerationMode.POSITIVE), st.booleans(), st.booleans())
        @settings(
            max_examples=12,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def send(case: Any, is_mine: bool, is_broken: bool) -> None:
            nonlocal hit
            if is_mine and "instance_id" in case.path_parameters:
                case.path_parameters["instance_id"] = begun.instance.id
            if is_broken and isinstance(case.body, dict):
                case.body = {**case.body, "unknown": None}
            case.call_and_validate(headers=headers, checks=CHECKS)
            hit += 1

        send()
        assert hit, operation.label


def test_the_description_says_what_is_true(http: TestClient) -> None:
    described = http.get("/api/openapi.json").json()
    for path, found in described["paths"].items():
        for method, operation in found.items():
            assert operation["summary"], (method, path)
            assert "422" not in operation["responses"], (method, path)
            for status, answer in operation["responses"].items():
                if status[0] in "45":
                    assert answer["content"]["application/json"]["schema"]["$ref"].endswith("/ErrorBody")


@pytest.mark.parametrize("path", ["/", "/api", "/api/", "/api/nothing", "/docs", "/api/instances/", "/api//signup"])
def test_no_such_page(http: TestClient, path: str) -> None:
    answer = http.get(path, follow_redirects=False)
    assert_error(answer, 404, "not_found")


def test_no_such_method(http: TestClient) -> None:
    for method, path in [
        ("PUT", "/api/signup"),
        ("POST", "/api/plans"),
        ("TRACE", "/api/health"),
        ("X", "/api/auth/me"),
    ]:
        answer = http.request(method, path)
        assert_error(answer, 405, "method_not_allowed")
        assert answer.headers["allow"]


def test_an_answer_to_something_broken_tells_nothing_of_the_inside(
    http: TestClient, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object) -> None:
        raise LookupError("secret-in-the-message")

    monkeypatch.setattr("clawhaven.api.status.workspace.list_personas", break_down)
    monkeypatch.setattr("clawhaven.api.errors.log.error", lambda *_, **__: None)
    answer = http.get("/api/personas")
    assert_error(answer, 500, "internal_error")
    assert "secret" not in json.dumps(answer.json())
