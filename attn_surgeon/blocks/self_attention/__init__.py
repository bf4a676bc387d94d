"""Blocks in which positions look at one another."""

from attn_surgeon.blocks.self_attention import bat, cot, focal, halo, lambdas, outlook, window

__all__ = ["bat", "cot", "focal", "halo", "lambdas", "outlook", "window"]
