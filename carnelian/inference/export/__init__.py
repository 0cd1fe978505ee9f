"""Finished models as ONNX files: the graph of each part, and int8."""
