"""Parse the names of networks, such as `timm/resnet50`."""

from __future__ import annotations

import ast
import os
from collections.abc import Mapping
from pathlib import Path

from attn_surgeon.errors import SourceError, nearest
from attn_surgeon.networks.source import Scalar, SourceSpec, forms, require_name, scalar, sources

_WORDS = {"true": True, "false": False}


def parse_source(text: str, *, args: Mapping[str, object] | None = None, weights: str = "default") -> SourceSpec:
    """Return the description of the network that a text names; raise SourceError if it names none.

    Args:
        text: the name, such as `timm/resnet50` or `file.py:factory`.
        args: the arguments of the factory; texts are parsed as Python literals.
        weights: `default`, `none`, a name that the source knows, or a file.
    """
    text = text.strip()
    _require_no_run_folder(text)
    kind, name, bare = _classify(text)
    values = {key: _literal(value) for key, value in (args or {}).items()}
    return SourceSpec(kind, name, values, weights.strip() or "default", bare)


def model_names() -> list[str]:
    """Return the names of all networks of the sources, such as timm's, and torchvision's as tv/NAME."""
    return [name for source in sources() for name in source.names()]


def _require_no_run_folder(text: str) -> None:
    if not os.path.isdir(text):  # noqa: PTH112 - pathlib raises for a name that is too long
        return
    patterns = [f"{folder}{file}.safetensors" for file in ("best", "last") for folder in ("", "seed-*-grafts/")]
    found = [path for pattern in patterns for path in sorted(Path(text).glob(pattern))]
    if found:
        raise SourceError("this is a run folder", text, f"name the artefact in it: {found[0]}")


def _classify(text: str) -> tuple[str, str, bool]:
    """Return the kind, the name, and whether the text has no prefix of a library."""
    for source in sources():
        if (name := source.parse(text)) is not None:
            return source.kind, name, False
    require_name(text, text)
    for name in (text, text.lower()):
        for source in sources():
            if source.has(name):
                return source.kind, name, True
    raise SourceError(f"unknown network {text!r}", "", nearest(text.lower(), model_names()) or f"write {forms()}")


def _literal(value: object) -> Scalar:
    """Return the Python value that a text spells, or the text."""
    if not isinstance(value, str):
        return scalar(value)
    if value.lower() in _WORDS:
        return _WORDS[value.lower()]
    try:
        return scalar(ast.literal_eval(value))
    except (ValueError, SyntaxError, MemoryError, RecursionError, SourceError):
        return value
