"""Convert ONNX files from single precision to half precision, bfloat16 and int8."""
