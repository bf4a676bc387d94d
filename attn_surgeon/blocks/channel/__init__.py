"""Blocks that weigh channels."""

from attn_surgeon.blocks.channel import (
    bam_channel,
    eca,
    ese,
    fca,
    gc,
    gct,
    gct_gauss,
    ge,
    lct,
    nam,
    se,
    sge,
    simam,
    srm,
)

__all__ = [
    "bam_channel",
    "eca",
    "ese",
    "fca",
    "gc",
    "gct",
    "gct_gauss",
    "ge",
    "lct",
    "nam",
    "se",
    "sge",
    "simam",
    "srm",
]
