"""Blocks that weigh channels and positions."""
