"""How often the intervals of comparisons are wrong, simulated: `python -m tests.statistics`."""
