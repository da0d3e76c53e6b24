"""What several contenders share: the same pooling, batches and exports for all of them."""
