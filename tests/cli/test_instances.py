"""Every command of `clawhaven instances`: what it sends, what it shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.contract_server import INSTANCE, ContractServer, operation, problem

ONE = f"/api/instances/{INSTANCE}"
TOKEN = "123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clawhaven.cli.client.POLL_SECONDS", 0.01)


def test_create_sends_the_draft_and_shows_where_to_pay(run: Run, server: ContractServer, tmp_path: Path) -> None:
    words = tmp_path / "soul.md"
    words.write_text("Be brief.\n")
    ran = run("instances", "create", "Ada", "--instructions-file", str(words), "--persona", "dev")
    assert ran.code == 0
    assert "http://pay/1" in ran.out
    seen = server.seen[-1]
    assert seen.body == {
        "assistant_name": "Ada",
        "custom_instructions": "Be brief.\n",
        "persona": "dev",
        "plan": "personal",
    }
    assert len(seen.headers["idempotency-key"]) == 36


def test_create_reads_the_bot_token_from_stdin_and_never_shows_it(run: Run, server: ContractServer) -> None:
    ran = run("instances", "create", "Ada", "--telegram", "--verbose", stdin=f"{TOKEN}\n")
    assert server.seen[-1].body["telegram_bot_token"] == TOKEN
    assert TOKEN not in ran.out + ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--telegram-token", "-", "--instructions-file", "-"),
        ("--instructions", "a", "--instructions-file", "b"),
        ("--instructions-file", "does-not-exist"),
        ("--telegram",),
    ],
)
def test_create_refuses_what_cannot_be(run: Run, server: ContractServer, arguments: tuple[str, ...]) -> None:
    assert run("instances", "create", "Ada", *arguments).code == 2
    assert server.seen == []


def test_create_prints_the_id_alone_when_quiet(run: Run) -> None:
    assert run("instances", "create", "Ada", "--quiet").out == f"{INSTANCE}\n"


def test_get_shows_what_is_wrong(run: Run, server: ContractServer) -> None:
    failure = {"code": "not_ready", "message": "It did not become ready in time."}
    answer = {"id": INSTANCE, "status": "suspended", "suspended_for": ["balance", "owner"], "failure": failure}
    server.answers["GET", ONE] = (200, answer)
    ran = run("instances", "get", INSTANCE)
    assert "balance, owner" in ran.out
    assert "It did not become ready in time." in ran.out


def test_a_stranger_s_assistant_is_not_found(run: Run) -> None:
    assert run("instances", "get", "ins_other").code == 4


def test_an_id_cannot_name_another_path(run: Run, server: ContractServer) -> None:
    assert run("instances", "get", "../billing/balance").code == 4
    assert server.seen[-1].path == "/api/instances/..%2Fbilling%2Fbalance"


@pytest.mark.parametrize("verb", ["start", "stop", "restart", "replace-key"])
def test_actions_answer_at_once(run: Run, server: ContractServer, verb: str) -> None:
    ran = run("instances", verb, INSTANCE)
    assert ran.code == 0
    assert "--wait" in ran.err
    assert (server.seen[-1].method, server.seen[-1].path) == ("POST", f"{ONE}/{verb}")


def test_wait_shows_each_step_once(run: Run, server: ContractServer) -> None:
    looks = iter(
        [
            operation("restart", "running", (("drain_and_stop", "running"), ("wait_ready", "waiting"))),
            operation("restart", "running", (("drain_and_stop", "done"), ("wait_ready", "running"))),
            operation("restart", "done", (("drain_and_stop", "done"), ("wait_ready", "done"))),
        ]
    )
    server.answers["GET", f"{ONE}/operations/op_1"] = lambda _: (200, next(looks))
    ran = run("instances", "restart", INSTANCE, "--wait")
    assert ran.out == "The assistant has been restarted.\n"
    assert ran.err.splitlines() == [
        "  drain and stop: running",
        "  drain and stop: done",
        "  wait ready: running",
        "  wait ready: done",
    ]


def test_a_replaced_key_is_waited_for(run: Run, server: ContractServer) -> None:
    steps = (("make_key", "done"), ("drain_and_stop", "waiting"))
    server.answers["GET", f"{ONE}/operations/op_1"] = (200, operation("replace_key", "done", steps))
    ran = run("instances", "replace-key", INSTANCE, "--wait")
    assert (ran.out, ran.err) == ("The assistant has a new key, or has it once it is started.\n", "  make key: done\n")


def test_wait_answers_programs_with_the_end(run: Run) -> None:
    assert run("instances", "stop", INSTANCE, "--wait", "--format", "json").json["operation"]["state"] == "done"


def test_wait_tells_why_it_failed(run: Run, server: ContractServer) -> None:
    end = operation("restart", "failed", error="not_ready", message="It did not become ready in time.")
    server.answers["GET", f"{ONE}/operations/op_1"] = (200, end)
    ran = run("instances", "restart", INSTANCE, "--wait")
    assert ran.code == 1
    assert "It did not become ready in time." in ran.err


def test_wait_has_an_end(run: Run, server: ContractServer) -> None:
    server.answers["GET", f"{ONE}/operations/op_1"] = (200, operation("restart", "running"))
    ran = run("instances", "restart", INSTANCE, "--wait", "--timeout", "1")
    assert ran.code == 1
    assert "still under way" in ran.err


def test_wait_slows_down_when_asked_to(run: Run, server: ContractServer) -> None:
    looks = iter([(429, problem("rate_limited", "Slower.", retry_after=1)), (200, operation("restart", "done"))])
    server.answers["GET", f"{ONE}/operations/op_1"] = lambda _: next(looks)
    assert run("instances", "restart", INSTANCE, "--wait").code == 0


def test_an_action_that_changes_nothing_has_no_operation(run: Run, server: ContractServer) -> None:
    server.answers["PATCH", ONE] = (202, {"operation": None})
    assert run("instances", "configure", INSTANCE, "--name", "New", "--wait").code == 0


def test_configure_sends_only_what_changes(run: Run, server: ContractServer) -> None:
    assert run("instances", "configure", INSTANCE, "--model", "m", "--instructions", "").code == 0
    assert server.seen[-1].body == {"custom_instructions": "", "model": "m"}
    assert run("instances", "configure", INSTANCE).code == 2


def test_models_are_listed_with_their_prices(run: Run, server: ContractServer) -> None:
    offer = {
        "model": "claude-x",
        "vendor": "anthropic",
        "label": "Anthropic",
        "input_micros": 3_000_000,
        "output_micros": 15_000_000,
        "cache_read_micros": 300_000,
        "is_chosen": True,
    }
    server.answers["GET", f"/api/instances/{INSTANCE}/models"] = (200, {"items": [offer], "next_cursor": None})
    told = run("instances", "models", INSTANCE).out
    for words in ("claude-x", "Anthropic", "$3.00", "$15.00", "$0.30", "yes"):
        assert words in told


def test_delete_wants_a_yes(run: Run, server: ContractServer) -> None:
    ran = run("instances", "delete", INSTANCE)
    assert ran.code == 2
    assert server.seen == []
    assert run("instances", "delete", INSTANCE, "--force").code == 0
    assert server.seen[-1].method == "DELETE"


def test_usage_lists_calls_with_their_price(run: Run) -> None:
    ran = run("instances", "usage", INSTANCE)
    assert "1,234" in ran.out
    assert "$0.0042" in ran.out


def test_events_and_personas(run: Run, bare: Run) -> None:
    assert "Up." in run("instances", "events", INSTANCE).out
    assert run("instances", "personas").out.split() == ["PERSONA", "personal", "dev"]


def test_an_empty_list_says_what_to_do(run: Run, server: ContractServer) -> None:
    server.answers["GET", "/api/instances"] = (200, {"items": [], "next_cursor": None})
    ran = run("instances", "list")
    assert ran.out == ""
    assert "clawhaven instances create" in ran.err


def test_a_change_can_be_looked_at_first(run: Run, server: ContractServer) -> None:
    seen = {
        "fields": [{"name": "name", "before": "Ada", "after": "Bea"}],
        "files": [{"name": "SOUL.md", "before": "You are Ada.\n", "after": "You are Bea.\n", "is_own": True}],
    }
    server.answers["POST", f"{ONE}/review"] = (200, seen)
    ran = run("instances", "configure", INSTANCE, "--name", "Bea", "--dry-run")
    assert (server.seen[-1].path, server.seen[-1].body) == (f"{ONE}/review", {"assistant_name": "Bea"})
    assert ran.code == 0
    for line in ("-Ada", "+Bea", "--- SOUL.md (changed by somebody: stays as it is)", "+You are Bea."):
        assert line in ran.out.splitlines()
    server.answers["POST", f"{ONE}/review"] = (200, {"fields": [], "files": []})
    assert run("instances", "configure", INSTANCE, "--name", "Ada", "--dry-run").out == "Nothing would change.\n"


def test_the_log_is_filtered_by_the_server(run: Run, server: ContractServer) -> None:
    assert run("instances", "logs", INSTANCE, "--filter", "token refused", "--level", "warn").code == 0
    assert server.seen[-1].query == {"lines": "200", "q": "token refused", "level": "warn"}
