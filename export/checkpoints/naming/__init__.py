"""Weight names of each framework, mapped to PyTorch's."""
