"""Launches for sizes and GPUs that nobody has measured: reasoned from the sizes alone.

What a program costs is estimated from rough rates of the chip, and the launch that should end
first is chosen. No figure here comes from a run on a GPU; where one has been measured, its entry
in `bertrt.kernels.launch.measured_table` is used instead.
"""

from bertrt.kernels.launch.configs import AttentionTiles, Gpu, How, LinearTiles, bucket

__all__ = ["attention", "candidates", "linear", "row_warps", "split_linear"]

# For one multiprocessor of a Hopper GPU, a nanosecond: two thirds of its share of the data sheet's
# dense half-precision rate, and what it may get from the second-level cache. Other GPUs differ,
# but mostly in both at once, which leaves the choice the same.
_FLOPS = 5000.0
_BYTES = 45.0
# A program's start and end, and the least time of one step along the depth, in nanoseconds.
_PROGRAM = 1500.0
_STEP = 120.0

# Above this many rows cuBLAS is taken for plain products: its tiles for large ones are hard to
# beat. An activation is worth more than the difference, being a read and a write of the result.
_SMALL = 256

# block_m, block_n, block_k, warps; the larger a tile, the fewer bytes it reads for a product.
_TILES = (
    (128, 256, 64, 8),
    (128, 128, 64, 8),
    (64, 256, 64, 8),
    (128, 64, 64, 4),
    (64, 128, 64, 4),
    (64, 64, 64, 4),
    (32, 128, 64, 4),
    (32, 64, 128, 4),
    (16, 128, 64, 4),
    (16, 64, 128, 4),
    (16, 32, 128, 4),
)
_SPLITS = (1, 2, 3, 4, 6, 8)


def linear(gpu: Gpu, rows: int, depth: int, columns: int, itemsize: int, activated: bool) -> How:
    """How to compute [rows, depth] · [depth, columns], of items of `itemsize` bytes."""
    if itemsize == 4 or (rows > _SMALL and not activated):
        return "torch"
    return candidates(gpu, rows, depth, columns, itemsize)[0]


def split_linear(gpu: Gpu, rows: int, depth: int, columns: int, itemsize: int) -> LinearTiles:
    """The same by Triton in partial sums; one where splitting gains nothing."""
    split = rows <= _SMALL and itemsize < 4
    return candidates(gpu, rows, depth, columns, itemsize, split=split)[0]


def candidates(
    gpu: Gpu, rows: int, depth: int, columns: int, itemsize: int, *, split: bool = False
) -> list[LinearTiles]:
    """Triton's launches for [rows, depth] · [depth, columns], the most promising first.

    `split` allows partial sums over parts of the depth, for what follows to add up.
    """
    wide = max(32, 1 << (columns - 1).bit_length())
    launches = [
        LinearTiles(m, n, k, warps, _stages(gpu, m, n, k, itemsize), parts)
        for m, n, k, warps in _TILES
        for parts in (_SPLITS if split else (1,))
        if m <= bucket(rows) and n <= wide and (parts == 1 or parts * k <= depth)
    ]
    return sorted(launches, key=lambda one: _cost(gpu, one, rows, depth, columns, itemsize))


def attention(
    gpu: Gpu, programs_of_128: int, head_size: int, longest: int, itemsize: int
) -> AttentionTiles:
    """Blocks for sequences of at most `longest` tokens.

    `programs_of_128` is how many programs there are when each has 128 queries. Sequences that fit
    a block are one step without a running maximum. Where there would be fewer programs than
    multiprocessors, each has fewer queries.
    """
    if itemsize == 4:  # No tensor cores: small blocks, for registers.
        block = min(32, bucket(longest))
        return AttentionTiles(block, block if head_size <= 64 else 16, 4, 1)
    if longest <= 64:
        block = bucket(longest)
        return AttentionTiles(block, block, block // 16, 1)
    if head_size > 128:
        return AttentionTiles(64, 32, 4, 2)
    if longest <= 128 and head_size <= 64:
        return AttentionTiles(64, 128, 4, 1)
    if head_size > 64:
        return AttentionTiles(64, 64, 4, 2)
    if programs_of_128 < gpu.multiprocessors:
        return AttentionTiles(64, 64, 4, 3)
    return AttentionTiles(128, 64, 4, 3)


def row_warps(columns: int) -> int:
    """Warps for a row of so many columns: 16 to 32 of them in each thread's registers."""
    return max(1, min(16, (1 << (columns - 1).bit_length()) // 512)) if columns > 0 else 1


def _cost(
    gpu: Gpu, tiles: LinearTiles, rows: int, depth: int, columns: int, itemsize: int
) -> float:
    """Nanoseconds until the last program ends, by the rates above."""
    m, n, k = tiles.block_m, tiles.block_n, tiles.block_k
    programs = -(-rows // m) * -(-columns // n) * tiles.splits
    waves = -(-programs // gpu.multiprocessors)
    step = max(2 * m * n * k / _FLOPS, (m + n) * k * itemsize / _BYTES, _STEP)
    steps = -(-depth // (k * tiles.splits))
    # Partial sums of float32 are written, and read by what follows.
    sums = 2 * 4 * tiles.splits * rows * columns if tiles.splits > 1 else 0
    return waves * (_PROGRAM + steps * step) + sums / (_BYTES * gpu.multiprocessors)


def _stages(gpu: Gpu, block_m: int, block_n: int, block_k: int, itemsize: int) -> int:
    """Two to four steps of loads ahead, as shared memory has room for."""
    room = gpu.shared_memory // ((block_m + block_n) * block_k * itemsize)
    return max(2, min(4, room))
