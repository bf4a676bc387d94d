"""Blocks that weigh channels."""
