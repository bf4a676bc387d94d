"""Blocks in which positions look at one another."""
