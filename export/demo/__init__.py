"""The embedded model, `bertrt export --model demo`: a small BERT and the code that trained it."""
