"""Evaluation of any task: one network or two on the same images, clean and corrupted."""
