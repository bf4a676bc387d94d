"""Put attention into pretrained vision networks: exactly the identity at first, with a certificate that says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attn_surgeon.artefact import load, save
    from attn_surgeon.blocks.own import register_block
    from attn_surgeon.errors import LostGraftError, SurgeonError
    from attn_surgeon.export.library import export_onnx, export_program
    from attn_surgeon.export.parity import ParityError
    from attn_surgeon.graph.certificate import certify
    from attn_surgeon.graph.check import check
    from attn_surgeon.graph.made import list_grafts
    from attn_surgeon.graph.sites.survey import find_sites
    from attn_surgeon.operations import insert, remove
    from attn_surgeon.recipe import read_recipe
    from attn_surgeon.recipe_schema import Recipe

__version__ = "0.2.0"
__all__ = [
    "LostGraftError",
    "ParityError",
    "Recipe",
    "SurgeonError",
    "certify",
    "check",
    "export_onnx",
    "export_program",
    "find_sites",
    "insert",
    "list_grafts",
    "load",
    "read_recipe",
    "register_block",
    "remove",
    "save",
]

_HOMES = {
    "LostGraftError": "attn_surgeon.errors",
    "ParityError": "attn_surgeon.export.parity",
    "Recipe": "attn_surgeon.recipe_schema",
    "SurgeonError": "attn_surgeon.errors",
    "certify": "attn_surgeon.graph.certificate",
    "check": "attn_surgeon.graph.check",
    "export_onnx": "attn_surgeon.export.library",
    "export_program": "attn_surgeon.export.library",
    "find_sites": "attn_surgeon.graph.sites.survey",
    "insert": "attn_surgeon.operations",
    "list_grafts": "attn_surgeon.graph.made",
    "load": "attn_surgeon.artefact",
    "read_recipe": "attn_surgeon.recipe",
    "register_block": "attn_surgeon.blocks.own",
    "remove": "attn_surgeon.operations",
    "save": "attn_surgeon.artefact",
}


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    """Import a public name where it is first used, so that `attn-surgeon --help` need not import torch."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module 'attn_surgeon' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
