"""Files on the two mounts of a container.

An assistant has a shell and owns these directories, so a name in them may have become a link to a file of this host
since we last looked. Therefore every step of a path is opened by descriptor and no link is ever followed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from clawhaven.ports.errors import ProviderError
from clawhaven.ports.runtime import File

OWNER = 1000
"""User and group id of `node` in the image."""
MOUNTS = ("state", "secrets")
READ_LIMIT_BYTES = 16 * 1024**2
"""More than the largest log that OpenClaw writes: 10 MB."""


def make_mounts(root: Path) -> None:
    """Make an instance's directory (ours alone) and its two mounts (the container's). Raises OSError."""
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _opened(root) as top:
        for name in MOUNTS:
            with _opened_below(top, (name,), is_making=True):
                pass


def write(root: Path, files: Sequence[File]) -> None:
    """Put these files in place, each atomically and synced to disk. Raises OSError, or ProviderError for a bad path."""
    for file in files:
        *folders, name = _parts(file.path)
        with _opened(root) as top, _safe(file.path), _opened_below(top, folders, is_making=True) as folder:
            if file.keep and _exists(name, folder):
                continue
            _replace(folder, name, file.content.encode(), file.mode)


def read(root: Path, path: str) -> str | None:
    """The text of one file, or None when there is none. Raises OSError, or ProviderError for a bad or huge file."""
    *folders, name = _parts(path)
    try:
        with (
            _safe(path),
            _opened(root) as top,
            _opened_below(top, folders, is_making=False) as folder,
            os.fdopen(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder), "rb") as file,
        ):
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise _unsafe(path)
            content = file.read(READ_LIMIT_BYTES + 1)
    except FileNotFoundError:
        return None
    if len(content) > READ_LIMIT_BYTES:
        raise ProviderError(f"{path} is larger than {READ_LIMIT_BYTES} bytes", permanent=True, code="too_large")
    return content.decode(errors="replace")


def remove(root: Path) -> None:
    """Remove an instance's directory; gone is success. Nothing may run in it any more. Raises OSError."""
    try:
        shutil.rmtree(root)
    except FileNotFoundError:
        return
    except PermissionError:  # the assistant took our own write permission away from a directory of its own
        for folder, names, _ in os.walk(root):
            Path(folder).chmod(0o700)
            for name in names:
                child = Path(folder) / name
                if not child.is_symlink():
                    child.chmod(0o700)
        shutil.rmtree(root)


def _parts(path: str) -> tuple[str, ...]:
    parts = PurePosixPath(path).parts
    if len(parts) < 2 or parts[0] not in MOUNTS or ".." in parts:
        raise ProviderError(f"{path!r} is not below state/ or secrets/", permanent=True, code="unsafe_path")
    return parts


def _replace(folder: int, name: str, content: bytes, mode: int) -> None:
    temporary = f".{name[:100]}.{secrets.token_hex(6)}"
    try:
        with os.fdopen(
            os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=folder), "wb"
        ) as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            _give(file.fileno())
            os.fsync(file.fileno())
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise
    os.fsync(folder)


def _give(descriptor: int) -> None:
    """Hand a file to the container's user; where that user is us, only the group may differ, which is harmless."""
    if os.fstat(descriptor).st_uid != OWNER or os.geteuid() == 0:
        os.fchown(descriptor, OWNER, OWNER)


def _exists(name: str, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _opened_below(top: int, folders: Sequence[str], *, is_making: bool) -> Iterator[int]:
    """The directory `folders` deep below `top`; with `is_making` what is missing is made, 0700, the container's own."""
    current = os.dup(top)
    try:
        for name in folders:
            is_new = False
            if is_making:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=current)
                    is_new = True
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=current)
            os.close(current)
            current = below
            # A kill between mkdir and this leaves a directory of root's: mend it on the next call.
            if is_new or (is_making and os.fstat(current).st_uid != OWNER):
                _give(current)
        yield current
    finally:
        os.close(current)


@contextlib.contextmanager
def _safe(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.EISDIR):
            raise _unsafe(path) from error
        raise


def _unsafe(path: str) -> ProviderError:
    return ProviderError(f"{path} is not a plain file in plain directories", permanent=True, code="unsafe_path")


def is_able(parent: Path) -> bool:
    """True when this process may give a file below `parent` to the container's user and still replace it."""
    probe = parent / f".probe-{secrets.token_hex(6)}"
    try:
        make_mounts(probe)
        write(probe, [File("state/a/b", "x"), File("state/a/b", "y")])
        return read(probe, "state/a/b") == "y"
    except OSError:
        return False
    finally:
        shutil.rmtree(probe, ignore_errors=True)
