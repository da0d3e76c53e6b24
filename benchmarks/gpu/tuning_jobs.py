"""What is tuned: the sizes of the launch table, and the candidate launches of each."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch

from benchmarks.gpu.cases import SIZES, Size
from bertrt.kernels.launch import cost_model
from bertrt.kernels.launch.configs import AttentionTiles, Gpu, LinearLaunch
from bertrt.kernels.triton import KERNELS

__all__ = ["Attention", "Product", "jobs"]

# Rows of the products; 1x128, 8x128, 32x128 and 128x128 come first.
_ROWS = (128, 1024, 4096, 16384, 16, 32, 64, 256, 512, 2048, 8192, 32768)
_MOST_SPLIT = 512
# The mean and the longest sequence.
_EQUAL = tuple((length, length) for length in (128, 512, 16, 32, 64, 256, 1024))
_MIXED = ((32, 256), (64, 512), (128, 512))
_BUSY = 16384
# One of so many mixed sequences is the longest.
_MIX = 16
_HEADS = 12
# How many candidates of the cost model are measured for split products; for whole ones all are.
_SPLIT = 20


@dataclass(frozen=True)
class Product:
    """[rows, depth] · [depth, columns]: "plain", with "gelu", or with the AddLayerNorm it feeds."""

    gpu: Gpu
    kind: Literal["plain", "gelu", "norm"]
    rows: int
    depth: int
    columns: int

    @property
    def table(self) -> str:
        return "SPLIT_LINEAR" if self.kind == "norm" else "LINEAR"

    @property
    def key(self) -> tuple[Any, ...]:
        """The key in the table, with the rows at the end."""
        if self.kind == "norm":
            return self.depth, self.columns, self.rows
        return self.depth, self.columns, self.kind == "gelu", self.rows

    def launches(self, device: torch.device) -> Iterator[tuple[LinearLaunch, Callable[[], Any]]]:
        """Yield each candidate launch and a function that runs it."""
        x, weight, bias = (
            torch.randn(shape, device=device).mul(0.1).half()
            for shape in ((self.rows, self.depth), (self.depth, self.columns), (self.columns,))
        )
        residual = x.new_zeros(self.rows, self.columns)
        activation = "gelu" if self.kind == "gelu" else ""

        def run(how: LinearLaunch) -> torch.Tensor:
            partials = how != "torch" and how.splits > 1
            y = KERNELS["Linear"](
                x, weight, bias, activation=activation, partials=partials, launch=how
            )
            if self.kind != "norm":
                return y
            return KERNELS["AddLayerNorm"](y, bias, bias, None, residual)

        sizes = (self.gpu, self.rows, self.depth, self.columns, 2)
        hows: list[LinearLaunch] = ["torch", *cost_model.linear_candidates(*sizes)]
        if self.kind == "norm":
            split = cost_model.linear_candidates(*sizes, split=True)
            hows = [*hows, *[tiles for tiles in split if tiles.splits > 1][:_SPLIT]]
        for how in hows:
            yield how, lambda how=how: run(how)

    def choose(self, times: dict[LinearLaunch, float], better: float) -> LinearLaunch:
        """Return the fastest launch, preferring the safest one.

        Another launch wins only if it takes less than `better` of its time.
        """
        if self.kind != "norm":
            fastest = min(times, key=lambda how: times[how])
            return fastest if times[fastest] < better * times["torch"] else "torch"
        # Whole products have their own table: one of them is enough here.
        whole = min(time for how, time in times.items() if how == "torch" or how.splits == 1)
        ours = {how: time for how, time in times.items() if how != "torch"}
        split = {how: time for how, time in ours.items() if how.splits > 1}
        fastest_split = min(split, key=lambda how: split[how], default=None)
        if fastest_split is not None and split[fastest_split] < better * whole:
            return fastest_split
        return min((how for how in ours if how.splits == 1), key=lambda how: ours[how])


@dataclass(frozen=True)
class Attention:
    """Attention of a single sequence, or of as many as fill the GPU.

    They have one length, or one of sixteen is the longest and the others are equally short.
    """

    gpu: Gpu
    head_size: int
    mean: int
    longest: int
    busy: bool
    table = "ATTENTION"

    @property
    def key(self) -> tuple[Any, ...]:
        """The key in the table."""
        return self.head_size, self.mean, self.longest, self.busy

    @property
    def lengths(self) -> list[int]:
        """The number of tokens of each sequence."""
        if self.mean == self.longest:
            return [self.longest] * (max(1, _BUSY // self.longest) if self.busy else 1)
        short, longer = divmod(_MIX * self.mean - self.longest, _MIX - 1)
        mix = [self.longest, *[short + 1] * longer, *[short] * (_MIX - 1 - longer)]
        return mix * (_BUSY // sum(mix))

    def launches(self, device: torch.device) -> Iterator[tuple[Any, Callable[[], Any]]]:
        """Yield each candidate launch and a function that runs it."""
        offsets = torch.tensor([0, *itertools.accumulate(self.lengths)], device=device).int()
        shape = (sum(self.lengths), 3 * _HEADS * self.head_size)
        qkv = torch.randn(shape, device=device).half()
        options: dict[str, Any] = {
            "num_heads": _HEADS,
            "max_length": self.longest,
            "block_maps": {},
        }
        for tiles in self._tiles():
            yield (
                tiles,
                lambda tiles=tiles: KERNELS["PackedAttention"](
                    qkv, offsets, **options, tiles=tiles
                ),
            )

    def choose(self, times: dict[AttentionTiles, float], better: float) -> AttentionTiles:
        """Return the fastest launch."""
        return min(times, key=lambda tiles: times[tiles])

    def _tiles(self) -> Iterator[AttentionTiles]:
        for block_m, block_n in itertools.product((16, 32, 64, 128), repeat=2):
            if max(block_m, block_n) > self.longest or 4 * block_n < min(block_m, self.longest):
                continue
            for warps in (block_m // 32, block_m // 16):
                if warps not in (1, 2, 4, 8):
                    continue
                # Large blocks take shared memory: with two stages more programs may fit.
                several = (2, 3) if min(block_m, block_n) >= 64 else (3,)
                for stages in (1,) if self.longest <= block_n else several:
                    yield AttentionTiles(block_m, block_n, warps, stages)


def jobs(gpu: Gpu) -> Iterator[Product | Attention]:
    """Yield all entries of the table, the most important first."""
    yield from _products(gpu, SIZES["BERT-base"])
    yield from _attentions(gpu, 64)
    yield from _products(gpu, SIZES["BERT-large"])
    yield from _products(gpu, SIZES["MiniLM"])
    yield from _attentions(gpu, 32)


def _products(gpu: Gpu, size: Size) -> Iterator[Product]:
    hidden, inner = size.hidden, size.inner
    for rows in _ROWS:
        yield Product(gpu, "plain", rows, hidden, 3 * hidden)
        yield Product(gpu, "gelu", rows, hidden, inner)
        for depth in (hidden, inner):
            yield Product(gpu, "plain", rows, depth, hidden)
            if rows <= _MOST_SPLIT:
                yield Product(gpu, "norm", rows, depth, hidden)


def _attentions(gpu: Gpu, head_size: int) -> Iterator[Attention]:
    for mean, longest in _MIXED:
        yield Attention(gpu, head_size, mean, longest, busy=True)
    for (mean, longest), busy in itertools.product(_EQUAL, (True, False)):
        yield Attention(gpu, head_size, mean, longest, busy)
