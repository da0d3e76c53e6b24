"""The Triton kernels' room. Imported only as `bertrt.kernels`; nothing runs at import."""
