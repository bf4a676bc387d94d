"""Controlled experiments in any training loop: the network with grafts and the same network without them."""
