"""The Triton engine: a graph of `bertrt` operators, planned, launched and captured on a GPU."""
