"""What all blocks stand on: cards, options, gates, layouts, stacks, the registry, blocks of users."""
