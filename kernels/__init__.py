"""The Triton engine, imported as `bertrt.kernels`. Importing this package runs nothing."""
