"""What errors say: whether they name a graft, and in which line."""

from __future__ import annotations

import re

import attn_surgeon


def names_graft(error: BaseException) -> bool:
    """Say whether an error tells its reader that it is about a graft or this package."""
    return isinstance(error, attn_surgeon.SurgeonError) or any(map(_naming, _lines(error)))


def brief(error: BaseException) -> str:
    """Give the start of the line of an error that names a graft, or of its first line."""
    lines = [line.strip() for line in _lines(error) if line.strip()] or [type(error).__name__]
    line = next(filter(_naming, lines), lines[0])
    return line if len(line) <= 110 else f"{line[:109]}…"


def _lines(error: BaseException | None) -> list[str]:
    return [] if error is None else [*str(error).splitlines(), *_lines(error.__cause__)]


def _naming(line: str) -> bool:
    """Look for a name in a line, paths of files and modules and names made up by compilers aside."""
    rest = re.sub(r'File ".*"|__torch__[\w.]*|\S*\.py\S*|No module named .*|has no attribute .*', "", line)
    return re.search(r"graft|attn.surgeon", rest) is not None
