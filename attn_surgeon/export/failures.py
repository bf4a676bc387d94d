"""Errors of exporters in one line, with a hint."""

from __future__ import annotations

from collections.abc import Sequence

from attn_surgeon.errors import ExportError
from attn_surgeon.export.dynamic_axes import Axis

_MAX_CHARACTERS = 200


def short_reason(error: BaseException) -> str:
    """Return the most informative line of the message of an exporter's error, shortened."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    line = lines[1] if len(lines) > 1 and lines[0].endswith(":") else lines[0]
    return line if len(line) <= _MAX_CHARACTERS else f"{line[:_MAX_CHARACTERS]}…"


def export_failure(error: BaseException, axes: Sequence[Axis]) -> ExportError:
    """Return an ExportError for an error that an exporter raised, with a hint for common causes."""
    why, names = short_reason(error), [axis.name for axis in axes]
    hint = f"try it with {' and '.join(names)} fixed" if names else "ATTN_SURGEON_DEBUG=1 shows the traceback"
    if "data-dependent" in why:
        why = "its control flow depends on computed values, such as where a detector selects boxes"
        hint = "export the part before that as a network of its own"
    return ExportError(f"the network cannot be exported: {why}", "", hint)
