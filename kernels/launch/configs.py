"""Launch configurations of the kernels, and the GPU that they are chosen for."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["AttentionTiles", "Gpu", "LinearLaunch", "LinearTiles", "next_power_of_two"]


@dataclass(frozen=True)
class Gpu:
    """The properties of a GPU that a launch depends on.

    Attributes:
        name: the driver's name, such as "NVIDIA H200".
        multiprocessors: the number of streaming multiprocessors.
        shared_memory: the most shared memory of one program, in bytes.
    """

    name: str
    multiprocessors: int
    shared_memory: int


@dataclass(frozen=True)
class LinearTiles:
    """A launch of Triton's matrix product [T, K] · [K, N].

    A program computes `block_m` by `block_n` results, `block_k` of the depth at a time, with
    `warps` warps and loads `stages` steps ahead. If the caller takes partial sums, `splits`
    programs share the depth of each tile (split-K).
    """

    block_m: int
    block_n: int
    block_k: int
    warps: int
    stages: int
    splits: int = 1


# A matrix product by Triton, or by PyTorch, which on a GPU calls cuBLAS.
LinearLaunch = LinearTiles | Literal["torch"]


@dataclass(frozen=True)
class AttentionTiles:
    """A launch of attention: `block_m` queries per program, and `block_n` keys at a time."""

    block_m: int
    block_n: int
    warps: int
    stages: int


def next_power_of_two(count: int) -> int:
    """Round a number of rows or tokens up to a power of two, at least 16."""
    return max(16, 1 << (count - 1).bit_length()) if count > 0 else 16
