"""Atomic writes by one process at a time: after an error or a kill, a file is complete or what it was before.

Who writes a file holds a lock on it, which the system releases when the process ends, however it ends. What a killed
process leaves, a hidden lock file and hidden temporary files, is removed by the next one that writes there.
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
_RANDOM = r"\.[a-z0-9_]{8}\.tmp"  # the end of the names that tempfile makes here
_guard = threading.Lock()


@dataclass
class _Claim:
    """The handle of a lock file, None where there is none, and how often this process claims the path."""

    handle: int | None
    holders: int = 0


_claims: dict[tuple[int, Path], _Claim] = {}


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Keep other processes from writing a file or folder, and remove what killed ones have left of it.

    Raises BusyError where another process writes it. Where the file system has no locks, nothing is kept.
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
    """Yield a temporary path beside `path`; what is written there replaces it atomically at the end."""
    with claimed(path):
        handle, temporary = tempfile.mkstemp(prefix=f".{_short(path.name)}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
        try:
            yield temporary
            _sync_and_rename(temporary, path)
        finally:
            with suppress(FileNotFoundError):
                Path(temporary).unlink()


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Yield a path of the same name in a temporary folder; it and the files written beside it replace the target.

    Where the body raises, nothing is left behind.
    """
    with claimed(path):
        folder = Path(tempfile.mkdtemp(prefix=f".{_short(path.name)}.", suffix=".tmp", dir=path.parent))
        try:
            yield folder / path.name
            for made in sorted(folder.iterdir(), key=lambda file: file.name == path.name):  # what it refers to first
                _sync_and_rename(str(made), path.parent / made.name)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def is_leftover(path: Path) -> bool:
    """Whether a file is a lock or a temporary file of this module, by its name."""
    return re.fullmatch(rf"\..+({_RANDOM}|{re.escape(_LOCK)})", path.name) is not None


def remove_leftovers(folder: Path) -> None:
    """Remove the locks and temporary files in a folder, and in those inside it, that is claimed as a whole."""
    for path in [path for path in folder.rglob(".*") if is_leftover(path)]:
        _remove(path)


def _sync_and_rename(temporary: str, path: Path) -> None:
    """Rename a finished file such that a crash leaves the old file or the new one, never a part of one."""
    mask = os.umask(0)
    os.umask(mask)
    with Path(temporary).open("rb+") as file:
        os.fsync(file.fileno())
    Path(temporary).chmod(0o666 & ~mask)
    Path(temporary).replace(path)
    with suppress(OSError):  # not every system lets a folder be opened
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _lock(place: Path) -> int | None:
    """Lock a path by a file beside it, and return its handle, or None where that cannot be made."""
    if sys.platform == "win32":
        return None
    file = _lock_file(place)
    while True:
        try:
            handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError:  # writing the file itself reports why
            return None
        try:
            # unlike those of flock, these locks are not inherited by workers that outlive their parent for a moment
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_same_file(file, handle):  # or who held it has removed it meanwhile
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
    """Remove the temporary files and folders of earlier processes for a path whose lock is held."""
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
    """Return a name with room for more in the longest that file systems take."""
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    return f"{name[:40]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
