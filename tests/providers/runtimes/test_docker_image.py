"""Which image is meant and what its build would get; the building itself happens in test_docker.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clawhaven.core.settings import Settings
from clawhaven.providers.runtimes.docker_engine import Engine
from clawhaven.providers.runtimes.docker_image import Image


def make(tmp_path: Path, *, given: str = "", base: str = "", version: str = "2026.9.6") -> Image:
    settings = Settings(data_dir=tmp_path, cache_dir=tmp_path / "cache", openclaw_version=version)
    return Image(Engine(""), settings, given=given, base=base, ca_file=None)


def test_the_operators_image_is_taken_as_it_is(tmp_path: Path) -> None:
    assert (
        make(tmp_path, given="registry.example/openclaw@sha256:1").reference() == "registry.example/openclaw@sha256:1"
    )


def test_the_tag_changes_with_whatever_the_build_depends_on(tmp_path: Path) -> None:
    tags = {
        make(tmp_path).reference(),
        make(tmp_path, base="debootstrap").reference(),
        make(tmp_path, base="debian-with-node:24").reference(),
        make(tmp_path, version="2026.9.7").reference(),
    }
    assert len(tags) == 4
    assert make(tmp_path).reference() in tags
    assert all(tag.startswith("clawhaven/openclaw:2026.9.") for tag in tags)


def test_context_is_pinned_and_the_private_part_stays_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tmp_path / "ca.crt"
    bundle.write_text("-----BEGIN CERTIFICATE-----")
    monkeypatch.setenv("NODE_EXTRA_CA_CERTS", str(bundle))
    monkeypatch.setenv("npm_config_registry", "https://mirror.example/npm/")
    files = make(tmp_path)._context()
    assert json.loads(files["package/package.json"])["dependencies"] == {"openclaw": "2026.9.6"}
    lock = json.loads(files["package/package-lock.json"])
    assert lock["packages"]["node_modules/openclaw"]["integrity"].startswith("sha512-")
    assert files["private/npmrc"] == "registry=https://mirror.example/npm/\n"
    assert files["private/ca.crt"] == "-----BEGIN CERTIFICATE-----"
    assert "mirror.example" not in files["Dockerfile"] + files["package/package.json"]
    # The last stage takes nothing from the private folder.
    assert "private" not in files["Dockerfile"].rsplit("FROM ", 1)[1]


def test_a_version_without_a_lock_is_still_exact(tmp_path: Path) -> None:
    files = make(tmp_path, version="2026.9.7")._context()
    assert json.loads(files["package/package.json"])["dependencies"] == {"openclaw": "2026.9.7"}
    assert "package/package-lock.json" not in files
