"""Write ONNX files, rewrite their graphs, change their precision, run them."""
