"""Adapters to the object detectors of other libraries: their losses, predictions and heads."""
