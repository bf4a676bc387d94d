"""Blocks in which positions look at one another."""

from attn_surgeon.blocks.self_attention import (
    a2,
    aft,
    axial,
    botnet,
    crisscross,
    efficient,
    external,
    mhsa,
    non_local,
    sagan,
    separable,
)

__all__ = [
    "a2",
    "aft",
    "axial",
    "botnet",
    "crisscross",
    "efficient",
    "external",
    "mhsa",
    "non_local",
    "sagan",
    "separable",
]
