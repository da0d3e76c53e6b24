"""The batches that are measured on a GPU: the number of tokens of each sequence, by name."""

from benchmarks.data.corpus import mixed_lengths

__all__ = ["BATCHES", "MIXED"]

# Lengths of mixed texts, as the workload `ragged` has them.
MIXED = "128 mixed"
BATCHES = {
    "1x16": [16],
    "1x128": [128],
    "8x128": [128] * 8,
    "32x128": [128] * 32,
    "128x128": [128] * 128,
    "1x512": [512],
    "32x512": [512] * 32,
    MIXED: mixed_lengths(128),
}
