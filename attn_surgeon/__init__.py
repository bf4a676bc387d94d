"""Put attention into pretrained vision networks: exactly the identity at first, with a certificate that says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attn_surgeon.artefact.file import load, save
    from attn_surgeon.artefact.recipe import read_recipe
    from attn_surgeon.artefact.recipe_schema import Recipe
    from attn_surgeon.blocks.base.own import register_block
    from attn_surgeon.errors import LostGraftError, SurgeonError
    from attn_surgeon.export.api import export_onnx, export_program
    from attn_surgeon.export.parity import ParityError
    from attn_surgeon.operations.insert import insert, remove
    from attn_surgeon.surgery.certificate import certify
    from attn_surgeon.surgery.check import check
    from attn_surgeon.surgery.installed import list_grafts
    from attn_surgeon.surgery.sites.survey import find_sites

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
    "Recipe": "attn_surgeon.artefact.recipe_schema",
    "SurgeonError": "attn_surgeon.errors",
    "certify": "attn_surgeon.surgery.certificate",
    "check": "attn_surgeon.surgery.check",
    "export_onnx": "attn_surgeon.export.api",
    "export_program": "attn_surgeon.export.api",
    "find_sites": "attn_surgeon.surgery.sites.survey",
    "insert": "attn_surgeon.operations.insert",
    "list_grafts": "attn_surgeon.surgery.installed",
    "load": "attn_surgeon.artefact.file",
    "read_recipe": "attn_surgeon.artefact.recipe",
    "register_block": "attn_surgeon.blocks.base.own",
    "remove": "attn_surgeon.operations.insert",
    "save": "attn_surgeon.artefact.file",
}


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    """Import a public name where it is first used, so that `attn-surgeon --help` need not import torch."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module 'attn_surgeon' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
