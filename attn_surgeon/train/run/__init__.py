"""One run: steps, epochs, checkpoints, and going on where one stopped."""
