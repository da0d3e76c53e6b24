"""PyTorch to ONNX: trace a head's forward pass to a graph."""
