"""The real gateway, backed up while it runs and brought back: what was said before is known again, what came after is
not, and no key of ours ever lies in the archive."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from clawhaven.core.settings import Settings
from clawhaven.providers.runtimes.process import Process
from tests.live.demo import Customer, Demo

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]


def said(customer: Customer) -> str:
    """The conversation as the chat page gets it: the gateway's own memory of it."""
    return customer.request("GET", f"/instances/{customer.instance_id}/chat/earlier").text


def ask(customer: Customer, method: str, path: str) -> None:
    answer = customer.request(method, f"{customer.path}/{path}")
    assert answer.status_code == 202, answer.text
    customer.wait_idle()


def ready(customer: Customer, made_for: str) -> dict[str, Any]:
    found = [one for one in customer.get(f"{customer.path}/backups")["items"] if one["made_for"] == made_for]
    assert found[0]["status"] == "ready", found
    first: dict[str, Any] = found[0]
    return first


def test_talk_back_up_go_on_and_bring_it_back(tmp_path: Path) -> None:
    with Demo(tmp_path) as demo:
        demo.start()
        ada = demo.join("ada@example.com")
        ada.pay()
        ada.wait_for("active")
        ada.chat("the first riddle")
        before = demo.gateways()

        ask(ada, "POST", "backups")
        assert demo.gateways() == before, "it was not stopped for it"
        assert "after the backup" in ada.chat("after the backup")["reply"], "and goes on"
        made = ready(ada, "owner")
        version = ada.get(f"{ada.path}/version")
        assert (made["openclaw_version"], version["version"]) == (version["newest"], version["newest"])

        saved = ada.request("GET", f"{ada.path}/backups/{made['id']}/download")
        assert saved.status_code == 200
        with tarfile.open(fileobj=io.BytesIO(saved.content), mode="r:gz") as tar:
            files = {one.name: tar.extractfile(one).read() for one in tar.getmembers() if one.isfile()}  # type: ignore[union-attr]
        assert any(b"SQLite format 3" in content for content in files.values())
        assert b"the first riddle" in b"".join(files.values())
        house = demo.data / "customers" / ada.instance_id
        for word in (house / "secrets" / "secrets.json").read_text().split('"'):
            assert len(word) < 20 or not [name for name, content in files.items() if word.encode() in content]
        settings = Settings(
            data_dir=demo.data, **({"cache_dir": demo.env["CACHE_DIR"]} if "CACHE_DIR" in demo.env else {})
        )
        runtime = Process(Process.Options(), settings)
        assert runtime.validate(files[".openclaw/openclaw.json"].decode()) == [], "what OpenClaw itself says of it"
        assert b"the first riddle" not in next((demo.data / "backups").rglob("*.sealed")).read_bytes()

        assert "after the backup" in said(ada)
        ask(ada, "POST", f"backups/{made['id']}/restore")
        assert ada.get(ada.path)["status"] == "active"
        assert list(demo.gateways()) == [ada.instance_id]
        told = said(ada)
        assert "the first riddle" in told
        assert "after the backup" not in told
        assert "once more" in ada.chat("once more")["reply"]

        ask(ada, "POST", f"backups/{ready(ada, 'restore')['id']}/restore")
        told = said(ada)
        assert "after the backup" in told
        assert "once more" not in told

        ask(ada, "POST", "stop")
        ask(ada, "POST", f"backups/{made['id']}/restore")
        assert demo.gateways() == {}, "paused it stays"
        assert ada.request("GET", f"{ada.path}/backups/{made['id']}/download").status_code == 200
        ada.request("POST", f"{ada.path}/start")
        ada.wait_for("active")
        assert "after the backup" not in said(ada)
        ada.request("DELETE", ada.path)
        ada.wait_for("deleted")
        ada.wait_idle()
        assert not list((demo.data / "backups").rglob("*"))
        assert demo.problems() == []
