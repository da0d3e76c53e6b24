"""Quantize graphs to int8: the fastest mixture of int8 and float32 that meets an accuracy bound."""
