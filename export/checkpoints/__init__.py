"""Read checkpoints: find the files, read their format, rename the weights, build the model."""
