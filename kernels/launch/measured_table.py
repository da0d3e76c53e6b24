"""The launch table: which block sizes a kernel gets, by GPU and sizes.

Entries come from `benchmarks/tune_kernels.py`, which measures candidates on the GPU at hand and
prints them in this form. There are none yet: no GPU has been measured. What is not in the table
comes from the sizes (`bertrt.kernels.launch.cost_model`), so other sizes and other GPUs run too.
"""

from bertrt.kernels.launch import cost_model
from bertrt.kernels.launch.configs import AttentionTiles, Gpu, How, LinearTiles, bucket

__all__ = ["ATTENTION", "LINEAR", "SPLIT_LINEAR", "attention", "linear", "split_linear"]

# GPU → (K, N, with an activation) → rows, rounded up to a power of two → how.
# Measured in float16, for both types of 16 bits.
LINEAR: dict[str, dict[tuple[int, int, bool], dict[int, How]]] = {}

# GPU → (K, N) → rows, rounded up → tiles; one split where a plain product was as fast.
SPLIT_LINEAR: dict[str, dict[tuple[int, int], dict[int, LinearTiles]]] = {}

# GPU → (head size, longest sequence rounded up, whether there are programs for the whole GPU).
ATTENTION: dict[str, dict[tuple[int, int, bool], AttentionTiles]] = {}


def linear(gpu: Gpu, rows: int, depth: int, columns: int, itemsize: int, activated: bool) -> How:
    """How to compute [rows, depth] · [depth, columns].

    Args:
        gpu: the GPU that computes it.
        rows, depth, columns: T, K and N.
        itemsize: bytes of an element: 2 or 4.
        activated: whether an activation follows, other than the identity.
    """
    if itemsize == 2:
        measured = LINEAR.get(gpu.name, {}).get((depth, columns, activated), {})
        if bucket(rows) in measured:
            return measured[bucket(rows)]
    return cost_model.linear(gpu, rows, depth, columns, itemsize, activated)


def split_linear(gpu: Gpu, rows: int, depth: int, columns: int, itemsize: int) -> LinearTiles:
    """The same in partial sums over parts of the depth, for what follows to add up."""
    if itemsize == 2:
        measured = SPLIT_LINEAR.get(gpu.name, {}).get((depth, columns), {})
        if bucket(rows) in measured:
            return measured[bucket(rows)]
    return cost_model.split_linear(gpu, rows, depth, columns, itemsize)


def attention(
    gpu: Gpu, tokens: int, heads: int, head_size: int, longest: int, itemsize: int
) -> AttentionTiles:
    """Block sizes for `heads` heads of `tokens` packed tokens, in sequences up to `longest`."""
    programs = -(-tokens // 128) * heads
    if itemsize == 2:
        measured = ATTENTION.get(gpu.name, {})
        key = (head_size, bucket(longest), programs >= gpu.multiprocessors)
        if key in measured:
            return measured[key]
    return cost_model.attention(gpu, programs, head_size, longest, itemsize)
