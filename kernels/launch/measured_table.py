"""The launch table: measured launches, by GPU and sizes.

Entries come from `python -m benchmarks.gpu.tune_kernels`, which measures candidates on a GPU and
prints the fastest in this form. The tables are empty: no GPU has been measured yet. For sizes
that are not in a table, the launch is estimated (`bertrt.kernels.launch.cost_model`).
"""

from bertrt.kernels.launch import cost_model
from bertrt.kernels.launch.configs import (
    AttentionTiles,
    Gpu,
    LinearLaunch,
    LinearTiles,
    next_power_of_two,
)

__all__ = [
    "ATTENTION",
    "LINEAR",
    "SPLIT_LINEAR",
    "choose_attention",
    "choose_linear",
    "choose_split_linear",
]

# GPU → (K, N, has an activation) → rows, rounded up to a power of two → launch.
# Measured in float16, and used for both 16-bit dtypes.
LINEAR: dict[str, dict[tuple[int, int, bool], dict[int, LinearLaunch]]] = {}

# GPU → (K, N) → rows, rounded up → tiles, with 1 split if a whole product was as fast.
SPLIT_LINEAR: dict[str, dict[tuple[int, int], dict[int, LinearTiles]]] = {}

# GPU → (head size, mean and longest sequence, each rounded up, whether programs fill the whole GPU)
# → tiles.
ATTENTION: dict[str, dict[tuple[int, int, int, bool], AttentionTiles]] = {}


def choose_linear(
    gpu: Gpu, rows: int, depth: int, columns: int, itemsize: int, has_activation: bool
) -> LinearLaunch:
    """Choose a launch for [rows, depth] · [depth, columns].

    Args:
        gpu: the GPU that computes it.
        rows, depth, columns: T, K and N.
        itemsize: the bytes of an element, 2 or 4.
        has_activation: whether an activation other than the identity follows.
    """
    if itemsize == 2:
        measured = LINEAR.get(gpu.name, {}).get((depth, columns, has_activation), {})
        if next_power_of_two(rows) in measured:
            return measured[next_power_of_two(rows)]
    return cost_model.choose_linear(gpu, rows, depth, columns, itemsize, has_activation)


def choose_split_linear(
    gpu: Gpu, rows: int, depth: int, columns: int, itemsize: int
) -> LinearTiles:
    """Choose a launch in partial sums over parts of the depth, which the next operator adds up."""
    if itemsize == 2:
        measured = SPLIT_LINEAR.get(gpu.name, {}).get((depth, columns), {})
        if next_power_of_two(rows) in measured:
            return measured[next_power_of_two(rows)]
    return cost_model.choose_split_linear(gpu, rows, depth, columns, itemsize)


def choose_attention(
    gpu: Gpu,
    tokens: int,
    sequences: int,
    heads: int,
    head_size: int,
    max_length: int,
    itemsize: int,
) -> AttentionTiles:
    """Choose block sizes for packed tokens in sequences of at most `max_length` tokens.

    Numbers that were rounded up to a bucket will do: the mean length is then at least half of what
    it is.
    """
    programs = -(-tokens // 128) * heads
    mean_length = -(-tokens // sequences)
    if itemsize == 2:
        measured = ATTENTION.get(gpu.name, {})
        lengths = next_power_of_two(mean_length), next_power_of_two(max_length)
        key = (head_size, *lengths, programs >= gpu.multiprocessors)
        if key in measured:
            return measured[key]
    return cost_model.choose_attention(gpu, programs, head_size, mean_length, max_length, itemsize)
