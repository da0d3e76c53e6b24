"""Write a model repository for Triton Inference Server, and what its Python backend runs there."""
