"""What runs a graph: ONNX Runtime on a CPU or a GPU, or bertrt's Triton kernels."""
