"""Benchmarks and tuning of the Triton kernels; these need an NVIDIA GPU."""
