"""Convert networks to ONNX, rewrite the graphs, convert their precision, and run them in ONNX Runtime."""
