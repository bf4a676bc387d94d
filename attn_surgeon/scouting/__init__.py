"""Where attention pays: candidates scored by gradients before any training, sets of them, and pruning afterwards."""
