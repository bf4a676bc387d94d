"""TensorRT: lint an ONNX file against its parser's operator table, build an engine, and run it.

Nothing here was ever run on TensorRT. Our calls are checked against a recorded description of its Python API.
"""
