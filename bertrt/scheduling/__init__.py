"""What runs when, and how many at a time: threads, batches, workers and the dynamic batcher."""
