"""Choose launches by an estimate of their time, for sizes and GPUs that were not measured.

The estimate follows from the sizes and from rough rates of the chip. No number here comes from a
run on a GPU; a measured launch in `bertrt.kernels.launch.measured_table` takes precedence.
"""

from functools import lru_cache

from bertrt.kernels.launch.configs import (
    AttentionTiles,
    Gpu,
    LinearLaunch,
    LinearTiles,
    next_power_of_two,
)

__all__ = [
    "choose_attention",
    "choose_linear",
    "choose_split_linear",
    "linear_candidates",
    "row_warps",
]

# The rates of one multiprocessor of a Hopper GPU, per nanosecond: two thirds of its share of the
# data sheet's dense half-precision rate, and an estimate of what the second-level cache delivers.
# On other GPUs mostly both rates differ by the same factor, which leaves the choice unchanged.
_FLOPS_PER_NS = 5000.0
_BYTES_PER_NS = 45.0
# The time to start and end a program, and the least time of one step along the depth.
_PROGRAM_NS = 1500.0
_MIN_STEP_NS = 120.0

# Above this many rows, products without an activation go to cuBLAS, whose tiles for large products
# are hard to beat. A fused activation saves more than the difference: it avoids a read and a write
# of the result.
_MAX_SMALL_ROWS = 256

# block_m, block_n, block_k, warps, most stages. Larger tiles read fewer bytes for the same product.
_TILES = (
    (128, 256, 64, 8, 4),
    (128, 128, 64, 8, 4),
    # With three stages a Hopper GPU runs two of these programs on a multiprocessor: the activation
    # of one can overlap with the products of the other. The estimate does not see that.
    (128, 128, 64, 8, 3),
    (64, 256, 64, 8, 4),
    (128, 64, 64, 4, 4),
    (64, 128, 64, 4, 4),
    (64, 64, 64, 4, 4),
    (32, 128, 64, 4, 4),
    (32, 64, 128, 4, 4),
    (16, 128, 64, 4, 4),
    (16, 64, 128, 4, 4),
    (16, 32, 128, 4, 4),
)
_SPLITS = (1, 2, 3, 4, 6, 8)

# Ranking the candidates takes longer than a launch, so each size is ranked once. A model has a few
# sizes for each number of rows, and numbers of rows are rounded up to some hundred.
_MAX_SIZES = 4096


@lru_cache(_MAX_SIZES)
def choose_linear(
    gpu: Gpu, rows: int, depth: int, columns: int, itemsize: int, has_activation: bool
) -> LinearLaunch:
    """Choose a launch for [rows, depth] · [depth, columns], with elements of `itemsize` bytes."""
    if itemsize == 4 or (rows > _MAX_SMALL_ROWS and not has_activation):
        return "torch"
    return linear_candidates(gpu, rows, depth, columns, itemsize)[0]


@lru_cache(_MAX_SIZES)
def choose_split_linear(
    gpu: Gpu, rows: int, depth: int, columns: int, itemsize: int
) -> LinearTiles:
    """Choose a launch of Triton's product in partial sums; 1 split if splitting gains nothing."""
    split = rows <= _MAX_SMALL_ROWS and itemsize < 4
    return linear_candidates(gpu, rows, depth, columns, itemsize, split=split)[0]


def linear_candidates(
    gpu: Gpu, rows: int, depth: int, columns: int, itemsize: int, *, split: bool = False
) -> list[LinearTiles]:
    """Return Triton's launches for [rows, depth] · [depth, columns], the most promising first.

    `split` allows partial sums over parts of the depth, which the next operator adds up.
    """
    max_block_n = max(32, 1 << (columns - 1).bit_length())
    launches = [
        LinearTiles(m, n, k, warps, _stages(gpu, m, n, k, itemsize, most_stages), splits)
        for m, n, k, warps, most_stages in _TILES
        for splits in (_SPLITS if split else (1,))
        if m <= next_power_of_two(rows)
        and n <= max_block_n
        and (splits == 1 or splits * k <= depth)
    ]
    return sorted(
        dict.fromkeys(launches),  # little shared memory makes some of them equal
        key=lambda tiles: _cost_ns(gpu, tiles, rows, depth, columns, itemsize),
    )


def choose_attention(
    gpu: Gpu,
    programs_of_128: int,
    head_size: int,
    mean_length: int,
    max_length: int,
    itemsize: int,
) -> AttentionTiles:
    """Choose block sizes for sequences of `mean_length` tokens, and at most `max_length`.

    `programs_of_128` is the number of programs with 128 queries each. Sequences that fit in one
    block of keys take one step, without a running maximum. Among short sequences a few long ones do
    not decide: blocks as large as those need would mostly be empty. If there would be fewer
    programs than multiprocessors, programs get fewer queries.
    """
    if itemsize == 4:  # No tensor cores: small blocks, to save registers.
        block = min(32, next_power_of_two(max_length))
        return AttentionTiles(block, block if head_size <= 64 else 16, 4, 1)
    if max_length <= 64:
        block = next_power_of_two(max_length)
        return AttentionTiles(block, block, block // 16, 1)
    if head_size > 128:
        return AttentionTiles(64, 32, 4, 2)
    if max_length <= 128 and head_size <= 64:
        return AttentionTiles(64, 128, 4, 1)
    if head_size > 64 or mean_length <= 64:
        return AttentionTiles(64, 64, 4, 2)
    if programs_of_128 < gpu.multiprocessors:
        return AttentionTiles(64, 64, 4, 3)
    # A warp group computes its softmax while others multiply: eight warps are two groups, and need
    # half the registers, so that four groups fit on a multiprocessor in place of two.
    return AttentionTiles(128, 64, 8 if mean_length >= 256 else 4, 3)


def row_warps(columns: int) -> int:
    """Return the warps for a row of this width: 16 to 32 columns in each thread's registers."""
    return max(1, min(16, (1 << (columns - 1).bit_length()) // 512)) if columns > 0 else 1


def _cost_ns(
    gpu: Gpu, tiles: LinearTiles, rows: int, depth: int, columns: int, itemsize: int
) -> float:
    """Estimate the nanoseconds until the last program ends."""
    m, n, k = tiles.block_m, tiles.block_n, tiles.block_k
    programs = -(-rows // m) * -(-columns // n) * tiles.splits
    waves = -(-programs // gpu.multiprocessors)
    step = max(2 * m * n * k / _FLOPS_PER_NS, (m + n) * k * itemsize / _BYTES_PER_NS, _MIN_STEP_NS)
    steps = -(-depth // (k * tiles.splits))
    # Partial sums are float32; they are written here, and read by the next operator.
    partial_bytes = 2 * 4 * tiles.splits * rows * columns if tiles.splits > 1 else 0
    return waves * (_PROGRAM_NS + steps * step) + partial_bytes / (
        _BYTES_PER_NS * gpu.multiprocessors
    )


def _stages(gpu: Gpu, block_m: int, block_n: int, block_k: int, itemsize: int, most: int) -> int:
    """Return how many steps ahead to load: from two to `most`, as shared memory allows."""
    possible = gpu.shared_memory // ((block_m + block_n) * block_k * itemsize)
    return max(2, min(most, possible))
