"""Atomic writes: after an error, a file is complete or what it was before."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[str]:
    """Yield a temporary path beside `path`; what is written there replaces it atomically at the end."""
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
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
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        yield folder / path.name
        for made in sorted(folder.iterdir(), key=lambda file: file.name == path.name):  # what it refers to goes first
            _sync_and_rename(str(made), path.parent / made.name)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
