"""Files that commands read and write: the newest artefact, and outputs that must not be lost."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from attn_surgeon.cli.output import say
from attn_surgeon.errors import ArtefactError

SUFFIX = ".safetensors"
_MAKE_ONE = "make one with: attn-surgeon insert NETWORK --block BLOCK --after SITE"


def given_or_newest(path: str | None) -> str:
    """Give the artefact named, or the newest one that this tool wrote in the current folder, and say which."""
    if path is not None:
        return path
    found = own_artefacts(Path())
    if not found:
        raise ArtefactError(
            "no artefact is named, and this folder has none",
            str(Path.cwd()),
            _MAKE_ONE,
        )
    newest = max(found, key=lambda path: path.stat().st_mtime)
    say(f"taking {newest}, the newest artefact in this folder")
    return str(newest)


def artefact_or_newest(path: str | None) -> str:
    """Give the artefact named, which must be called like one, or the newest one in the current folder."""
    if path is not None and not path.endswith(SUFFIX):
        raise ArtefactError(f"this is no artefact: its name does not end in {SUFFIX}", path, _MAKE_ONE)
    return given_or_newest(path)


def own_artefacts(folder: Path) -> list[Path]:
    """List the artefacts of this tool in a folder."""
    return [path for path in sorted(folder.glob(f"*{SUFFIX}")) if _is_own(path)]


def _is_own(path: Path) -> bool:
    """Read only the header, and without torch."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, 100_000_000)))
        return "attn_surgeon" in header.get("__metadata__", {})
    except (OSError, ValueError, AttributeError, TypeError):
        return False


def writable(path: str, *, force: bool, suffixes: Sequence[str] = (SUFFIX,), option: str = "--output") -> Path:
    """Check early that a file can be written; raise ArtefactError where it cannot or is there already."""
    target = Path(path)
    if os.path.isdir(path):  # noqa: PTH112 - a name too long is no folder, where pathlib raises
        raise ArtefactError("the output is a folder", path, f"name a file with {option}")
    if target.suffix not in suffixes:
        what = f"the output's name does not end in {' or '.join(suffixes)}"
        raise ArtefactError(what, path, f"try {option} {path}{suffixes[0]}")
    if os.path.lexists(path) and not force:
        raise ArtefactError("the output exists already", path, f"add --force, or name another with {option}")
    if not os.path.isdir(target.parent):  # noqa: PTH112
        raise ArtefactError("the output's folder does not exist", str(target.parent), "make it first")
    if not os.access(target.parent, os.W_OK):
        raise ArtefactError("the output's folder cannot be written", str(target.parent), f"choose another {option}")
    return target


def size_text(path: Path) -> str:
    """Tell a file's size."""
    size = path.stat().st_size
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"
