"""Each kernel beside PyTorch and the GPU's limits; see `benchmarks.gpu.compare_kernels`."""

import torch

from benchmarks.gpu.batches import BATCHES, MIXED
from benchmarks.gpu.cases import SIZES, Size
from benchmarks.gpu.compare_kernels import compare
from benchmarks.gpu.limits import describe_gpu
from benchmarks.gpu.visit.visit import Visit

__all__ = ["run"]

# The goals are about the first three.
_BATCHES = ("1x128", "128x128", "32x512", MIXED, "8x128", "32x128")
_DRY_SIZE = Size(48, 3, 80)


def run(visit: Visit) -> None:
    """Write a row of each kernel and batch."""
    if visit.dry_run:
        size, batches = _DRY_SIZE, {"mixed": [9, 1, 4]}
        gpu = describe_gpu(copied=1024, side=16)
    else:
        size, batches = SIZES["BERT-base"], {name: BATCHES[name] for name in _BATCHES}
        gpu = describe_gpu()
    for name, lengths in batches.items():
        for row in compare(size, lengths, torch.float16, gpu):
            visit.add("kernels", batch=name, **row)
