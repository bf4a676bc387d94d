"""The catalogue of attention blocks: a folder for each kind, a file for each family, one registry.

Every file in these folders is imported, and registers its blocks: a new block is a new file.
"""

from importlib import import_module
from pkgutil import iter_modules

from attn_surgeon.blocks import both, channel, fusion, self_attention, spatial
from attn_surgeon.blocks.base.build import build_alone, build_block
from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate_report import closing_parameters, gate_maps, gates_of, is_identity, openness
from attn_surgeon.blocks.base.registry import block_names, get_card
from attn_surgeon.blocks.base.spec import BlockSpec
from attn_surgeon.blocks.base.two_inputs import SecondInput
from attn_surgeon.blocks.base.user_blocks import import_user_blocks, register_block

__all__ = [
    "BlockSpec",
    "Card",
    "Option",
    "SecondInput",
    "block_names",
    "both",
    "build_alone",
    "build_block",
    "channel",
    "closing_parameters",
    "fusion",
    "gate_maps",
    "gates_of",
    "get_card",
    "import_user_blocks",
    "is_identity",
    "openness",
    "register_block",
    "self_attention",
    "spatial",
]

for _kind in (both, channel, fusion, self_attention, spatial):
    for _file in iter_modules(_kind.__path__, f"{_kind.__name__}."):
        import_module(_file.name)
