"""int8 graphs: calibrated, smoothed, and searched for the fastest mixture that keeps its word."""
