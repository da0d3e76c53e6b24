"""What the models are and what they read: checkpoints, batches of token ids, and texts."""
