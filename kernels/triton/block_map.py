"""The sequence of each block of queries: found once a run, for the attention of all layers."""

from typing import TypeAlias

import torch
import triton
import triton.language as tl

from bertrt.kernels.triton.dependent_launch import launch_options, wait_for_predecessor

__all__ = ["BlockMaps", "map_blocks"]

# By the offsets' address, the queries of a block, and the number of blocks.
BlockMaps: TypeAlias = dict[tuple[int, int, int], torch.Tensor]


@triton.jit(do_not_specialize=["sequences", "blocks"])
def _map_blocks_kernel(
    offsets_ptr: tl.tensor,  # int32 [sequences + 1]
    map_ptr: tl.tensor,  # int32 [blocks], the result
    sequences: int,
    blocks: int,
    BLOCK_M: tl.constexpr,
    STEP: tl.constexpr,  # the blocks that are written at a time
    DEPENDENT: tl.constexpr,
) -> None:
    wait_for_predecessor(DEPENDENT)
    sequence = tl.program_id(0)
    begin = tl.load(offsets_ptr + sequence) // BLOCK_M + sequence
    end = tl.load(offsets_ptr + sequence + 1) // BLOCK_M + sequence + 1
    end = tl.where(sequence == sequences - 1, blocks, end)
    for at in range(begin, end, STEP):
        block = at + tl.arange(0, STEP)
        tl.store(map_ptr + block, tl.zeros_like(block) + sequence, mask=block < end)


def map_blocks(offsets: torch.Tensor, block_m: int, blocks: int, maps: BlockMaps) -> torch.Tensor:
    """Return the sequence of each block of `block_m` queries, int32 [blocks].

    Sequence b owns the blocks from offsets[b] // block_m + b up to the next sequence's first block:
    at least as many as it needs, and at most one more. The last sequence owns all that remain.

    Args:
        offsets: int32 [B + 1], ascending from 0, B at least 1.
        block_m: the queries of a block.
        blocks: at least offsets[B] // block_m + B, which the host knows without the offsets.
        maps: the run's maps so far; a map that is missing is made and added.
    """
    key = (offsets.data_ptr(), block_m, blocks)
    if key not in maps:
        sequences = offsets.shape[0] - 1
        maps[key] = offsets.new_empty(blocks)
        _map_blocks_kernel[(sequences,)](
            offsets,
            maps[key],
            sequences,
            blocks,
            BLOCK_M=block_m,
            STEP=32,
            num_warps=1,
            **launch_options(),
        )
    return maps[key]
