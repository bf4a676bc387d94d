"""Read what a user writes for a network: a name, a file's factory or a module's factory."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Mapping

from attn_surgeon.errors import SourceError, nearest
from attn_surgeon.networks import from_timm, from_torchvision
from attn_surgeon.networks.source import Scalar, SourceSpec, scalar

_PREFIXES = {"timm": "timm", "tv": "torchvision", "torchvision": "torchvision"}
_FORMS = "timm/NAME, tv/NAME, FILE.py:FACTORY, package.module:FACTORY or demo"
_REMOTE = {"hf-hub", "hf_hub", "local-dir", "local_dir", "http", "https", "file", "git"}
_WORDS = {"true": True, "false": False}
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def parse_source(text: str, *, args: Mapping[str, object] | None = None, weights: str = "default") -> SourceSpec:
    """Describe the source that a user's text names."""
    text = text.strip()
    kind, name, bare = _classify(text)
    values = {key: _literal(value) for key, value in (args or {}).items()}
    return SourceSpec(kind, name, values, weights.strip() or "default", bare)


def _classify(text: str) -> tuple[str, str, bool]:
    """Return kind, name and whether the text left the library open."""
    prefix, _, rest = text.partition("/")
    inside = f"{text}/last.safetensors"
    if os.path.isfile(inside):  # noqa: PTH113 - a name too long is no file, where pathlib raises
        raise SourceError("this is a run folder", text, f"name what it holds: {inside}")
    if text == "demo":
        return "demo", text, False
    if ".py:" in text or text.endswith(".py"):
        return "file", _file(text), False
    if prefix in _PREFIXES and rest:
        return _PREFIXES[prefix], _registered(rest, text), False
    if ":" in text:
        return "module", _module(text), False
    return _library(_registered(text, text)), text, True


def _file(text: str) -> str:
    """Check that a file's text names a factory too."""
    path, _, factory = text.rpartition(".py:")
    if path and factory.isidentifier():
        return text
    name = text.partition(".py")[0]
    raise SourceError("no factory is named", text, f"write {name}.py:FACTORY")


def _module(text: str) -> str:
    """Check that the text is a module and a factory in it, and no remote address."""
    if text.partition(":")[0].lower() in _REMOTE:
        raise SourceError("networks are not fetched from elsewhere", text, "use timm/NAME with --weights FILE")
    if _MODULE.fullmatch(text):
        return text
    raise SourceError("this names no network", text, f"write {_FORMS}")


def _registered(name: str, text: str) -> str:
    """Check that a name can be one of a registry, and no address or path."""
    if ":" in name:
        raise SourceError("networks are not fetched from elsewhere", text, "use timm/NAME with --weights FILE")
    if re.fullmatch(r"[\w.-]+", name):
        return name
    raise SourceError("this names no network", text or "empty", f"write {_FORMS}")


def _library(name: str) -> str:
    """Return the library that has a bare name, timm first."""
    for kind, library in (("timm", from_timm), ("torchvision", from_torchvision)):
        if library.has(name):
            return kind
    known = [*from_timm.names(), *(f"tv/{known}" for known in from_torchvision.names()), "demo"]
    raise SourceError(f"unknown network {name!r}", "timm and torchvision", nearest(name, known) or f"write {_FORMS}")


def _literal(value: object) -> Scalar:
    """Read text as the Python value it spells, or leave it as text."""
    if not isinstance(value, str):
        return scalar(value)
    if value.lower() in _WORDS:
        return _WORDS[value.lower()]
    try:
        return scalar(ast.literal_eval(value))
    except (ValueError, SyntaxError, MemoryError, RecursionError, SourceError):
        return value
