"""The base of all blocks: cards, options, gates, layouts, stacks, the registry, user blocks."""
