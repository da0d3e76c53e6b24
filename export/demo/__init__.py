"""The embedded model, `bertrt export --model demo`: a small BERT, and what it was made from."""
