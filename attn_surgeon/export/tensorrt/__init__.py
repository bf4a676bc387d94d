"""Build TensorRT engines: check an ONNX file against the parser's operator table, build an engine, and run it.

This code has never been run with TensorRT; its calls are tested against a recorded description of its Python API.
"""
