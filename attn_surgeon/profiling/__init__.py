"""Profile networks side by side: parameters, MACs, memory and latency, by runtime and by graft."""
