"""Blocks that take two maps of one shape."""
