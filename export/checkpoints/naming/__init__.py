"""Map each framework's weight names to PyTorch's."""
