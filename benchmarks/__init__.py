"""Benchmarks of bertrt beside other ways to serve a BERT checkpoint."""
