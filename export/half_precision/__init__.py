"""Convert float32 graphs to float16 and bfloat16."""
