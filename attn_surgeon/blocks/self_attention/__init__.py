"""Blocks of self-attention among positions."""
