"""Measure latency, cost and memory of networks and blocks."""
