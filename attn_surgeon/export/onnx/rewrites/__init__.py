"""Rewrite an exported ONNX graph into operators that are faster in ONNX Runtime."""
