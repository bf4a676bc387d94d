"""Blocks in which positions look at one another."""

from attn_surgeon.blocks.self_attention import cot, focal, halo, lambdas, outlook, window

__all__ = ["cot", "focal", "halo", "lambdas", "outlook", "window"]
