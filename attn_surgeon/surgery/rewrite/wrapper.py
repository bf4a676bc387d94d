"""Generate a forward that wraps the original one, with grafts at its entry and exit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attn_surgeon.surgery.rewrite.grafts import RESERVED
from attn_surgeon.surgery.rewrite.output_items import get_item, put_item
from attn_surgeon.surgery.rewrite.placement import Placement
from attn_surgeon.surgery.rewrite.signature import first_parameter, write_signature


def write_wrapper(
    forward: Callable[..., Any], inner: str, wraps: Mapping[str, Placement], lines: list[str]
) -> tuple[str, dict[str, Any]]:
    """Return the source of a forward that calls `inner` with grafts around it, and the globals that it needs.

    `lines` are inserted at the start of its body.
    """
    entries = [key for key, place in wraps.items() if place.kind == "entry"]
    exits = {key: place.item for key, place in wraps.items() if place.kind == "exit"}
    signature = write_signature(forward)
    takes, passes = signature.takes, signature.passes
    first = first_parameter(forward) if entries else ""
    if entries and takes.startswith("*"):
        takes, passes = f"{first}, {takes}", f"{first}, {passes}"
    output = "output" if "output" not in takes else "_output"
    call = f"self.{inner}({passes})" if inner.startswith("_inner") else f"{inner}(self, {passes})"
    body = [*lines, *(f"{first} = self.{RESERVED}.{key}({first})" for key in entries)]
    body += [f"{output} = {call}", *(f"{output} = {_graft_call(output, key, item)}" for key, item in exits.items())]
    text = "\n    ".join([f"def forward(self, {takes}):", *body, f"return {output}"]) + "\n"
    names = {"_get_item": get_item, "_put_item": put_item} if any(exits.values()) else {}
    return text, dict(signature.names) | names


def _graft_call(output: str, key: str, item: str) -> str:
    """Return the source of the call of a graft on the output, or on one item of it."""
    if not item:
        return f"self.{RESERVED}.{key}({output})"
    return f"_put_item({output}, {item!r}, self.{RESERVED}.{key}(_get_item({output}, {item!r})))"
