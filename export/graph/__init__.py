"""Matchers and edits of ONNX graphs that several fusions share."""
