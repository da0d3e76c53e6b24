"""Matching and editing ONNX graphs: what fusions share."""
