"""Latency, cost and memory of networks and blocks."""
