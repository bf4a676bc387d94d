"""Measurements on real data, each a command of its own."""
