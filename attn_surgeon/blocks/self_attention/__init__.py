"""Blocks in which positions look at one another."""

__all__: list[str] = []
