"""Files that commands read and write: the newest artefact, and outputs that must not overwrite anything."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from attn_surgeon.artefact.header import ARTEFACT_SUFFIX, is_artefact
from attn_surgeon.cli.output import print_note
from attn_surgeon.errors import ArtefactError
from attn_surgeon.files import claimed

_claims = ExitStack()
_MAKE_ONE = "create one with: attn-surgeon insert NETWORK --block BLOCK --after SITE"


def given_or_newest(path: str | None) -> str:
    """Return the path, or that of the newest artefact in the current folder, which is then printed."""
    if path is not None:
        return path
    found = own_artefacts(Path())
    if not found:
        raise ArtefactError("no artefact is named, and this folder has none", str(Path.cwd()), _MAKE_ONE)
    newest = max(found, key=lambda path: path.stat().st_mtime)
    print_note(f"using {newest}, the newest artefact in this folder")
    return str(newest)


def artefact_or_newest(path: str | None) -> str:
    """Return the path, which must end in .safetensors, or that of the newest artefact in the current folder."""
    if path is not None and not path.endswith(ARTEFACT_SUFFIX):
        raise ArtefactError(f"an artefact's name ends in {ARTEFACT_SUFFIX}", path, _MAKE_ONE)
    return given_or_newest(path)


def own_artefacts(folder: Path) -> list[Path]:
    """Return the artefacts in a folder, by name."""
    return [path for path in sorted(folder.glob(f"*{ARTEFACT_SUFFIX}")) if is_artefact(path)]


def writable(path: str, *, force: bool, suffixes: Sequence[str] = (ARTEFACT_SUFFIX,), option: str = "--output") -> Path:
    """Return the path of a file to write; raise ArtefactError if it cannot be written or exists.

    It is called before anything is loaded, and the file stays locked until the command ends. Unlike
    `attn_surgeon.save`, a command does not overwrite by default: the user may not have chosen the name.
    """
    target = Path(path)
    if not target.name or "\0" in path:
        raise ArtefactError("the output has no valid file name", repr(path), f"name a file with {option}")
    if os.path.isdir(path):  # noqa: PTH112 - pathlib raises for a name that is too long
        raise ArtefactError("the output is a folder", path, f"name a file with {option}")
    if target.suffix not in suffixes:
        what = f"the output's name does not end in {' or '.join(suffixes)}"
        raise ArtefactError(what, path, f"try {option} {path}{suffixes[0]}")
    if not os.path.isdir(target.parent):  # noqa: PTH112
        raise ArtefactError("the output's folder does not exist", str(target.parent), "create it first")
    if not os.access(target.parent, os.W_OK):
        raise ArtefactError("the output's folder cannot be written", str(target.parent), f"choose another {option}")
    claim(target)
    if os.path.lexists(path) and not force:
        raise ArtefactError("the output exists already", path, f"add --force, or name another with {option}")
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113
        raise ArtefactError("the output is a pipe or a device, not a file", path, f"name a file with {option}")
    return target


def claim(path: Path) -> None:
    """Lock an output until the command ends; raise BusyError if another process is writing it."""
    _claims.enter_context(claimed(path))


def release_claims() -> None:
    """Release the locks of this command's outputs."""
    _claims.close()


def size_text(path: Path) -> str:
    """Return a file's size as text."""
    size = path.stat().st_size
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"
