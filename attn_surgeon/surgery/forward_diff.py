"""List the generated forwards of an operated network beside the originals, grouped over identical rewrites."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from attn_surgeon.surgery.rewrite.operated_modules import generated_sources, grafts_in, is_operated, original_class

LIBRARY_FORWARD = "# torch's own forward, which is called unchanged"


@dataclass(frozen=True)
class Difference:
    """The source of a class's methods before and after the surgery, and the paths of the modules it applies to.

    `in_library` is whether the class is one of `torch.nn`, whose forward is called unchanged and not shown.
    """

    cls: str
    original: str
    generated: str
    owners: tuple[str, ...]
    in_library: bool = False


def differences(model: nn.Module) -> list[Difference]:
    """Return what was rewritten in an operated network, one entry for all modules rewritten in the same way."""
    groups: dict[tuple[type[nn.Module], tuple[str, ...], str], list[str]] = {}
    for path, module in model.named_modules():
        if is_operated(module) and grafts_in(module):
            sources = generated_sources(module)
            text = readable_text(sources)
            groups.setdefault((original_class(module), tuple(sources), text), []).append(path or "(the network)")
    return [
        Difference(cls.__name__, original_text(cls, methods), text, tuple(owners), _is_in_library(cls))
        for (cls, methods, text), owners in groups.items()
    ]


def original_text(cls: type[nn.Module], methods: Sequence[str] = ("forward",)) -> str:
    """Return the original source of a class's methods; for classes of `torch.nn`, a comment instead."""
    if _is_in_library(cls):
        return LIBRARY_FORWARD
    return "\n\n".join(text for method in methods if (text := _source(cls, method)))


def _is_in_library(cls: type[nn.Module]) -> bool:
    return cls.__module__.startswith("torch.nn.")


def _source(cls: type[nn.Module], method: str) -> str:
    function = getattr(cls, method, None)
    if function is None:
        return ""
    try:
        return textwrap.dedent(inspect.getsource(function)).rstrip()
    except (OSError, TypeError):
        return f"# the source of {cls.__name__}.{method} is not available"


def readable_text(sources: Mapping[str, str]) -> str:
    """Return the generated methods joined into one text, without the code that frees memory."""
    return "\n\n".join(readable(source) for source in sources.values())


def readable(source: str) -> str:
    """Return generated source without the `; x = None` that fx appends to each line to free memory early."""
    return re.sub(r";  \w+( = \w+)* = None(?=$|\n| *#)", "", source).strip()
