"""Lower a traced graph to the operators of the Triton engine, `bertrt.kernels.ops`."""
