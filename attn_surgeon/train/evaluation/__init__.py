"""What a network is worth: accuracy, calibration, comparisons, corrupted images."""
