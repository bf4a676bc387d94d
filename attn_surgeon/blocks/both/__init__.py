"""Blocks that weigh channels and positions."""

from attn_surgeon.blocks.both import bam, cbam, cpca, danet, ema, gam, hard, mlca, parnet, psa, scse, shuffle, soft

__all__ = ["bam", "cbam", "cpca", "danet", "ema", "gam", "hard", "mlca", "parnet", "psa", "scse", "shuffle", "soft"]
