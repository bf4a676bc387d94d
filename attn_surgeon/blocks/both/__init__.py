"""Blocks that weigh channels and positions."""

from attn_surgeon.blocks.both import bam, cbam, cpca, danet, ema, gam, mlca, parnet, psa, scse, shuffle

__all__ = ["bam", "cbam", "cpca", "danet", "ema", "gam", "mlca", "parnet", "psa", "scse", "shuffle"]
