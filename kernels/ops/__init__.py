"""The operators of the ONNX domain `bertrt`, which graphs for the Triton engine consist of.

A graph packs the tokens of its batch, so no arithmetic runs on padding: values are rows of T
tokens, and offsets [B + 1] say where each sequence begins. Each operator is one file that defines
it as a numpy function. `bertrt.kernels.ops.registry` lists them all; the kernels of the same names
are in `bertrt.kernels.triton`.
"""
