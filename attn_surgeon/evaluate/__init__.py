"""Evaluate networks: accuracy, calibration, paired comparisons, corrupted images."""
