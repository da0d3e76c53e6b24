"""A short visit to a GPU: time-boxed steps in processes of their own, the most decisive first."""
