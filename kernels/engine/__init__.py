"""The Triton engine: runs a graph of `bertrt` operators on a GPU.

Start reading at `session` (the interface) and `loaded_graph` (one run, step by step).
"""
