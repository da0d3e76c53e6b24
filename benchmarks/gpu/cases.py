"""The kernels' work in a BERT, and the same in PyTorch: the cases of the kernel comparison."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from bertrt.kernels.triton import KERNELS, choose_splits

__all__ = ["SIZES", "Case", "Size", "cases"]


@dataclass(frozen=True)
class Size:
    """A model's hidden size, heads, and inner size of the feed-forward layers."""

    hidden: int
    heads: int
    inner: int


SIZES = {
    "BERT-base": Size(768, 12, 3072),
    "BERT-large": Size(1024, 16, 4096),
    "MiniLM": Size(384, 12, 1536),
}


@dataclass(frozen=True)
class Case:
    """One operator on one batch, with the least bytes and FLOPs that it needs.

    Both functions return tensors of the same numbers, [T] rows without padding.
    """

    kernel: str
    run_ours: Callable[[], torch.Tensor]
    run_torch: Callable[[], torch.Tensor]
    bytes: int
    flops: int = 0


def cases(size: Size, lengths: list[int], device: str, dtype: torch.dtype) -> Iterator[Case]:
    """Yield the kernels of a layer, and those around the layers, on sequences of these lengths."""
    generator = torch.Generator(device).manual_seed(5)

    def random(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return torch.randn(shape, generator=generator, device=device).mul(scale).to(dtype)

    def linear(kernel: str, depth: int, width: int, activation: str = "") -> Case:
        x, weight, bias = (
            random(tokens, depth),
            random(depth, width, scale=depth**-0.5),
            random(width),
        )
        after = F.gelu if activation else torch.nn.Identity()
        return Case(
            kernel,
            lambda: KERNELS["Linear"](x, weight, bias, activation=activation),
            lambda: after(torch.addmm(bias, x, weight)),
            item * (tokens * (depth + width) + depth * width + width),
            2 * tokens * depth * width,
        )

    def linear_and_norm(kernel: str, depth: int) -> Case:
        x, weight, bias = (
            random(tokens, depth),
            random(depth, hidden, scale=depth**-0.5),
            random(hidden),
        )
        partials = choose_splits(tokens, depth, hidden, dtype, x.device) > 1

        def run_ours() -> torch.Tensor:
            y = KERNELS["Linear"](x, weight, bias, partials=partials)
            return KERNELS["AddLayerNorm"](y, gamma, beta, None, residual)

        return Case(
            kernel,
            run_ours,
            lambda: F.layer_norm(torch.addmm(bias, x, weight) + residual, (hidden,), gamma, beta),
            item * (tokens * (depth + 2 * hidden) + depth * hidden + 3 * hidden),
            2 * tokens * depth * hidden,
        )

    tokens, hidden = sum(lengths), size.hidden
    item = dtype.itemsize
    residual, gamma, beta = random(tokens, hidden), random(hidden), random(hidden)
    yield _embeddings(tokens, random, gamma, beta)
    yield linear("Linear: QKV", hidden, 3 * hidden)
    yield _attention(size, lengths, random)
    yield linear_and_norm("Linear + AddLayerNorm: attention output", hidden)
    yield linear("Linear: feed-forward, GELU", hidden, size.inner, "gelu")
    yield linear_and_norm("Linear + AddLayerNorm: feed-forward output", size.inner)
    x, bias = random(tokens, hidden), random(hidden)
    yield Case(
        "AddLayerNorm",
        lambda: KERNELS["AddLayerNorm"](x, gamma, beta, bias, residual),
        lambda: F.layer_norm(x + bias + residual, (hidden,), gamma, beta),
        item * (3 * tokens * hidden + 3 * hidden),
    )
    yield from _rows(x, lengths)


def _embeddings(
    tokens: int, random: Callable[..., torch.Tensor], gamma: torch.Tensor, beta: torch.Tensor
) -> Case:
    hidden = gamma.shape[0]
    tables = [random(30522, hidden), random(2, hidden), random(512, hidden)]
    generator = torch.Generator(gamma.device).manual_seed(6)
    indices = [
        torch.randint(
            len(table), (tokens,), generator=generator, device=gamma.device, dtype=torch.int32
        )
        for table in tables
    ]

    def run_torch() -> torch.Tensor:
        word, kind, place = (F.embedding(i, t) for i, t in zip(indices, tables, strict=True))
        return F.layer_norm(word + kind + place, (hidden,), gamma, beta)

    return Case(
        "EmbedLayerNorm",
        lambda: KERNELS["EmbedLayerNorm"](*indices, *tables, gamma, beta),
        run_torch,
        # Word embeddings read and rows written; the small tables stay in the cache.
        tokens * (2 * gamma.itemsize * hidden + 3 * 4),
    )


def _attention(size: Size, lengths: list[int], random: Callable[..., torch.Tensor]) -> Case:
    tokens, longest, width = sum(lengths), max(lengths), size.hidden // size.heads
    qkv = random(tokens, 3 * size.hidden)
    device = qkv.device
    counts = torch.tensor([0, *lengths], device=device)
    offsets = counts.cumsum(0).int()
    # PyTorch's inputs are padded and already split into heads; a mask only if there is padding.
    inside = torch.arange(longest, device=device) < counts[1:, None]
    padded = qkv.new_zeros(len(lengths), longest, 3, size.heads, width)
    padded[inside] = qkv.view(tokens, 3, size.heads, width)
    query, key, value = (part.contiguous() for part in padded.permute(2, 0, 3, 1, 4))
    mask = None if bool(inside.all()) else inside[:, None, None, :]

    def run_torch() -> torch.Tensor:
        return F.scaled_dot_product_attention(query, key, value, mask)

    rows = run_torch().transpose(1, 2)[inside].flatten(1)
    # All layers of a run share the map of blocks, so one call makes it and the others are timed.
    options: dict[str, Any] = {"num_heads": size.heads, "max_length": longest, "block_maps": {}}
    return Case(
        "PackedAttention",
        lambda: KERNELS["PackedAttention"](qkv, offsets, **options),
        _KnownAnswer(run_torch, rows),
        4 * tokens * size.hidden * qkv.itemsize,
        4 * size.hidden * sum(length**2 for length in lengths),
    )


class _KnownAnswer:
    """A function to time whose answer is already converted to our layout, which takes time."""

    def __init__(self, run: Callable[[], torch.Tensor], answer: torch.Tensor) -> None:
        self.run, self.answer = run, answer

    def __call__(self) -> torch.Tensor:
        self.run()
        return self.answer


def _rows(x: torch.Tensor, lengths: list[int]) -> Iterator[Case]:
    tokens, hidden = x.shape
    counts = torch.tensor(lengths, device=x.device)
    offsets = F.pad(counts.cumsum(0), (1, 0)).int()
    picked = offsets[:-1].contiguous()
    item, sequences = x.itemsize, len(lengths)
    yield Case(
        "SelectRows",
        lambda: KERNELS["SelectRows"](x, picked),
        lambda: x.index_select(0, picked),
        2 * sequences * hidden * item,
    )
    yield Case(
        "PoolRows",
        # `unsafe` leaves out a check that waits for the GPU, which no capture allows.
        lambda: KERNELS["PoolRows"](x, offsets, poolings="mean"),
        lambda: torch.segment_reduce(x.float(), "mean", lengths=counts, unsafe=True),
        tokens * hidden * item + 4 * sequences * hidden,
    )
    yield Case(
        "UnitRows",
        lambda: KERNELS["UnitRows"](x),
        lambda: F.normalize(x.float(), eps=1e-12),
        tokens * hidden * (item + 4),
    )
