"""PyTorch to ONNX: the forward pass that is traced, and the trace."""
