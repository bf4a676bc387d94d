"""Blocks that weigh positions."""
