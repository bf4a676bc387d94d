"""The generated forward beside the original, once for modules that were rewritten alike."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from attn_surgeon.surgery.rewrite.operated import generated_sources, grafts_in, is_operated, original_class


@dataclass(frozen=True)
class Difference:
    """What a class's own methods became, and the modules they became that in."""

    cls: str
    original: str
    generated: str
    owners: tuple[str, ...]


def differences(model: nn.Module) -> list[Difference]:
    """List what was rewritten in an operated network."""
    groups: dict[tuple[type[nn.Module], tuple[str, ...], str], list[str]] = {}
    for path, module in model.named_modules():
        if is_operated(module) and grafts_in(module):
            sources = generated_sources(module)
            text = readable_text(sources)
            groups.setdefault((original_class(module), tuple(sources), text), []).append(path or "(the network)")
    return [
        Difference(cls.__name__, _originals(cls, methods), text, tuple(owners))
        for (cls, methods, text), owners in groups.items()
    ]


def _originals(cls: type[nn.Module], methods: tuple[str, ...]) -> str:
    return "\n\n".join(text for method in methods if (text := original_source(cls, method)))


def original_source(cls: type[nn.Module], method: str = "forward") -> str:
    """Give the text of a class's own method, as its author wrote it."""
    function = getattr(cls, method, None)
    if function is None:
        return ""
    try:
        return textwrap.dedent(inspect.getsource(function)).rstrip()
    except (OSError, TypeError):
        return f"# the source of {cls.__name__}.{method} is not at hand"


def readable_text(sources: Mapping[str, str]) -> str:
    """Write generated methods one under the other, to be read."""
    return "\n\n".join(readable(source) for source in sources.values())


def readable(source: str) -> str:
    """Leave out the clean-up that fx writes after each line to free memory early."""
    return re.sub(r";  \w+( = \w+)* = None(?=$|\n| *#)", "", source).strip()
