"""How a kernel is launched: the sizes of its blocks, and the GPU that they are chosen for."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["AttentionTiles", "Gpu", "How", "LinearTiles", "bucket"]


@dataclass(frozen=True)
class Gpu:
    """What a launch depends on besides the sizes of its arrays.

    `name` is as the driver gives it ("NVIDIA H200"), `multiprocessors` their number, and
    `shared_memory` the bytes that one program may have at most.
    """

    name: str
    multiprocessors: int
    shared_memory: int


@dataclass(frozen=True)
class LinearTiles:
    """A launch of Triton's matrix product [T, K] · [K, N].

    A program computes `block_m` by `block_n` results, `block_k` of the depth at a time, with
    `warps` warps and loads `stages` steps ahead. `splits` programs share the depth of each tile
    where the caller takes partial sums.
    """

    block_m: int
    block_n: int
    block_k: int
    warps: int
    stages: int
    splits: int = 1


# A matrix product by Triton, or by cuBLAS through torch.
How = LinearTiles | Literal["torch"]


@dataclass(frozen=True)
class AttentionTiles:
    """A launch of attention: `block_m` queries a program, which takes `block_n` keys at a time."""

    block_m: int
    block_n: int
    warps: int
    stages: int


def bucket(count: int) -> int:
    """The power of two, from 16 on, that `count` rows or tokens are rounded up to."""
    return max(16, 1 << (count - 1).bit_length()) if count > 0 else 16
