"""Write an evaluation to a folder: the document as JSON, and the task's pictures of each network's predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from attn_surgeon.errors import DataError, option
from attn_surgeon.files import write_atomically

REPORT = "report.json"


def require_folder(folder: Path) -> None:
    """Raise DataError if a folder cannot be created because a file is in its place."""
    taken = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    if taken.exists() and not taken.is_dir():
        raise _unwritable(folder, f"{taken} is a file")


def write_report(folder: Path, document: str, pictures: Sequence[Mapping[str, bytes]]) -> None:
    """Write a document and the pictures of one network, or of two; files of an earlier report are replaced.

    Args:
        folder: the folder, which is created if it does not exist.
        document: the evaluation as JSON.
        pictures: for each network, files by name; those of the second get `-compare` in their names.
    """
    files = {REPORT: document.encode()}
    for own, suffix in zip(pictures, ("", "-compare"), strict=False):
        files |= {f"{Path(name).stem}{suffix}{Path(name).suffix}": content for name, content in own.items()}
    for name, content in files.items():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(folder / name, content)
        except OSError as error:
            raise _unwritable(folder / name, error.strerror or str(error)) from None


def _unwritable(path: Path, reason: str) -> DataError:
    return DataError(f"cannot write the report: {reason}", str(path), f"choose another {option('report')}")
