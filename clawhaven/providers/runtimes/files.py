"""An instance's files on this machine, written so that neither a crash nor a customer's symbolic link does harm.

The customer's agent can write in the same directories. Therefore every step of a path is opened relative to the one
before it and without following links: a link in the way is an error, never a detour.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from clawhaven.ports.errors import ProviderError
from clawhaven.ports.runtime import File

ROOTS = ("state", "secrets")
READ_LIMIT_BYTES = 16 * 1024 * 1024


def write_file(root: Path, file: File, owner: tuple[int, int] | None = None) -> bool:
    """Write atomically and durably; False when `file.keep` and it was there. `owner` is (uid, gid) of all that is new.

    Raises ProviderError: `bad_path` (permanent), `disk_full`, `io_error`.
    """
    *parents, name = split(file.path)
    try:
        with _directory(root, parents, create=True, owner=owner) as directory:
            if directory is None:
                raise ProviderError(f"{root} was removed meanwhile", code="io_error")
            if file.keep and _exists(directory, name):
                return False
            _replace(directory, name, file, owner)
            return True
    except OSError as error:
        raise explain(error, file.path) from error


def read_file(root: Path, path: str) -> str | None:
    """The text of a file, or None when it is not there. Raises ProviderError like write_file."""
    *parents, name = split(path)
    try:
        with _directory(root, parents, create=False, owner=None) as directory:
            if directory is None:
                return None
            try:
                handle = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
            except FileNotFoundError:
                return None
            with os.fdopen(handle, "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise ProviderError(f"{path} is not a regular file", permanent=True, code="bad_path")
                return file.read(READ_LIMIT_BYTES).decode(errors="replace")
    except OSError as error:
        raise explain(error, path) from error


def split(path: str) -> list[str]:
    """The steps of a relative path under state/ or secrets/. Raises ProviderError `bad_path` for anything else."""
    steps = path.split("/")
    if len(steps) < 2 or steps[0] not in ROOTS or any(step in ("", ".", "..") or "\0" in step for step in steps):
        raise ProviderError(f"not a path inside an instance: {path!r}", permanent=True, code="bad_path")
    return steps


def explain(error: OSError, what: object) -> ProviderError:
    """The ProviderError that an operating system error is."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ProviderError(f"The disk is full: {what}: {error.strerror}", code="disk_full")
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EISDIR):
        return ProviderError(f"A link or something else lies in the way: {what}", permanent=True, code="bad_path")
    return ProviderError(f"{what}: {error.strerror}", code="io_error")


@contextmanager
def _directory(root: Path, parents: list[str], *, create: bool, owner: tuple[int, int] | None) -> Iterator[int | None]:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    if create:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    try:
        for step in parents:
            if create:
                _make(handle, step, owner)
            try:
                below = os.open(step, flags, dir_fd=handle)
            except FileNotFoundError:
                yield None
                return
            os.close(handle)
            handle = below
        yield handle
    finally:
        os.close(handle)


def _make(directory: int, name: str, owner: tuple[int, int] | None) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=directory)
    except FileExistsError:
        return
    if owner is not None:
        os.chown(name, *owner, dir_fd=directory, follow_symlinks=False)


def _exists(directory: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _replace(directory: int, name: str, file: File, owner: tuple[int, int] | None) -> None:
    fresh = f".{name}.{secrets.token_hex(6)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(fresh, flags, 0o600, dir_fd=directory)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(file.content.encode())
            out.flush()
            if owner is not None:
                os.fchown(out.fileno(), *owner)
            os.fchmod(out.fileno(), file.mode)
            os.fsync(out.fileno())
        os.replace(fresh, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with suppress(OSError):
            os.unlink(fresh, dir_fd=directory)
        raise
    os.fsync(directory)
