"""ONNX files in half precision, bfloat16 and eight-bit integers, made from one in single precision."""
