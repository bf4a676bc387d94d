"""Atomic file writes with locks: after an error or a kill, a file is either complete or unchanged.

The writing process holds a lock, which the operating system releases when the process ends, however it ends. The
hidden lock and temporary files that a killed process leaves behind are removed by the next one that writes there.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from attn_surgeon.errors import BusyError

if sys.platform != "win32":
    import fcntl

_LONGEST_NAME = 200
_LOCK = ".lock"
_RANDOM = r"\.[a-z0-9_]{8}\.tmp"  # how the names of temporary files end
_guard = threading.Lock()


@dataclass
class _Claim:
    """The handle of a lock file, None if there is none, and how many times this process has claimed the path."""

    handle: int | None
    holders: int = 0


_claims: dict[tuple[int, Path], _Claim] = {}


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Lock a file or folder against other processes, and remove temporary files that killed processes left.

    Raises BusyError if another process is writing it. On file systems without locks, nothing is locked.
    """
    key = (os.getpid(), Path(os.path.realpath(path.parent)) / path.name)
    with _guard:
        if key not in _claims:
            _claims[key] = _Claim(_lock(key[1]))
            _remove_temporaries(key[1])
        _claims[key].holders += 1
    try:
        yield
    finally:
        with _guard:
            _claims[key].holders -= 1
            if not _claims[key].holders:
                _unlock(key[1], _claims.pop(key).handle)


@contextmanager
def replacing(path: Path) -> Iterator[str]:
    """Yield a temporary path beside `path`; the file written there atomically replaces `path` at the end."""
    with claimed(path), _named(path):
        handle, temporary = tempfile.mkstemp(prefix=f".{_short(path.name)}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        try:
            yield temporary
            _sync_and_rename(temporary, path)
        finally:
            with suppress(FileNotFoundError):
                Path(temporary).unlink()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write text, as UTF-8, or bytes to a file, which is replaced atomically."""
    with replacing(path) as temporary:
        Path(temporary).write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Yield a path of the same name in a temporary folder; that file and those written beside it replace the target.

    If the body raises, nothing is left behind.
    """
    with claimed(path), _named(path):
        folder = Path(tempfile.mkdtemp(prefix=f".{_short(path.name)}.", suffix=".tmp", dir=path.parent))
        try:
            yield folder / path.name
            # the target last, because it refers to the files beside it
            for file in sorted(folder.iterdir(), key=lambda file: file.name == path.name):
                _sync_and_rename(str(file), path.parent / file.name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Add the path to errors of the operating system that name none, as those of a full disk do."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def is_leftover(path: Path) -> bool:
    """Whether a file is, by its name, a lock or a temporary file written by this module."""
    return re.fullmatch(rf"\..+({_RANDOM}|{re.escape(_LOCK)})", path.name) is not None


def remove_leftovers(folder: Path) -> None:
    """Remove the locks and temporary files in a folder, which must be claimed, and its subfolders."""
    for path in [path for path in folder.rglob(".*") if is_leftover(path)]:
        _remove(path)


def _sync_and_rename(temporary: str, path: Path) -> None:
    """Rename a finished file such that a crash leaves the old file or the new one, never a partial one."""
    mask = os.umask(0)
    os.umask(mask)
    with Path(temporary).open("rb+") as file:
        os.fsync(file.fileno())
    Path(temporary).chmod(0o666 & ~mask)
    Path(temporary).replace(path)
    with suppress(OSError):  # not every system can open a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _lock(place: Path) -> int | None:
    """Lock a path by a file beside it, and return its handle, or None if the lock file cannot be created."""
    if sys.platform == "win32":
        return None
    file = _lock_file(place)
    while True:
        try:
            handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError:  # writing the target will report the reason
            return None
        try:
            # unlike with flock, worker processes that briefly outlive their parent do not inherit these locks
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_same_file(file, handle):  # otherwise its previous owner has removed it
                os.truncate(handle, 0)
                os.write(handle, str(os.getpid()).encode())
                return handle
        except (BlockingIOError, PermissionError):
            owner = os.read(handle, 20).decode("ascii", "replace")
            os.close(handle)
            raise _busy(place, owner) from None
        except OSError:  # the file system has no locks
            return handle
        os.close(handle)


def _unlock(place: Path, handle: int | None) -> None:
    if handle is None:
        return
    with suppress(OSError):
        _lock_file(place).unlink()
    os.close(handle)


def _lock_file(place: Path) -> Path:
    return place.with_name(f".{_short(place.name)}{_LOCK}")


def _is_same_file(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _busy(place: Path, owner: str) -> BusyError:
    who = f"another process (pid {owner})" if owner.isdecimal() else "another process"
    return BusyError(f"{who} is writing this", str(place), "wait until it ends, or choose another name")


def _remove_temporaries(place: Path) -> None:
    """Remove temporary files and folders that earlier processes left for a path, whose lock must be held."""
    temporary = re.compile(re.escape(f".{_short(place.name)}") + _RANDOM)
    with suppress(OSError):
        for entry in list(os.scandir(place.parent)):
            if temporary.fullmatch(entry.name):
                _remove(Path(entry.path))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _short(name: str) -> str:
    """Return a name that stays within the file system's limit after a suffix is appended."""
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    return f"{name[:40]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
