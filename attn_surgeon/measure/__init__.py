"""Measure the latency, the parameters and MACs, and the peak memory of networks and blocks."""
