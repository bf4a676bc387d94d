"""TensorRT: check an ONNX file against its parser's operator table, build an engine, and run it.

None of this has been run with TensorRT: its calls are checked against a recorded description of TensorRT's Python API.
"""
