"""Generated forwards and their originals, once for modules that were rewritten alike."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from attn_surgeon.surgery.rewrite.operated import generated_sources, grafts_in, is_operated, original_class

LIBRARY_FORWARD = "# torch's own forward, which is called unchanged"


@dataclass(frozen=True)
class Difference:
    """A class's own methods, what they became, and the modules they became that in.

    `in_library` is whether the class is torch's own, whose forward is called unchanged and not shown.
    """

    cls: str
    original: str
    generated: str
    owners: tuple[str, ...]
    in_library: bool = False


def differences(model: nn.Module) -> list[Difference]:
    """List what was rewritten in an operated network."""
    groups: dict[tuple[type[nn.Module], tuple[str, ...], str], list[str]] = {}
    for path, module in model.named_modules():
        if is_operated(module) and grafts_in(module):
            sources = generated_sources(module)
            text = readable_text(sources)
            groups.setdefault((original_class(module), tuple(sources), text), []).append(path or "(the network)")
    return [
        Difference(cls.__name__, original_text(cls, methods), text, tuple(owners), _is_torchs(cls))
        for (cls, methods, text), owners in groups.items()
    ]


def original_text(cls: type[nn.Module], methods: Sequence[str] = ("forward",)) -> str:
    """Return the source of a class's methods as its author wrote it; of torch's own classes a comment instead."""
    if _is_torchs(cls):
        return LIBRARY_FORWARD
    return "\n\n".join(text for method in methods if (text := _source(cls, method)))


def _is_torchs(cls: type[nn.Module]) -> bool:
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
    """Return generated methods one under the other, for people to read."""
    return "\n\n".join(readable(source) for source in sources.values())


def readable(source: str) -> str:
    """Remove the assignments of None that fx writes after each line to free memory early."""
    return re.sub(r";  \w+( = \w+)* = None(?=$|\n| *#)", "", source).strip()
