"""What the kernels do in a BERT, and how PyTorch does the same: the cases of the kernel table."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from bertrt.kernels.triton import KERNELS, splits

__all__ = ["BATCHES", "SIZES", "Case", "Size", "cases"]


@dataclass(frozen=True)
class Size:
    """Of a model: hidden size, heads, and the inner size of the feed-forward layers."""

    hidden: int
    heads: int
    inner: int


SIZES = {
    "BERT-base": Size(768, 12, 3072),
    "BERT-large": Size(1024, 16, 4096),
    "MiniLM": Size(384, 12, 1536),
}
# Sequences of equal length, and lengths as they come: 16 to 512, most of them short.
BATCHES = {
    "1x16": [16],
    "1x128": [128],
    "8x128": [128] * 8,
    "32x128": [128] * 32,
    "128x128": [128] * 128,
    "1x512": [512],
    "32x512": [512] * 32,
    "128 mixed": [min(512, 16 + 4096 // (i + 1)) for i in range(128)],
}


@dataclass(frozen=True)
class Case:
    """One operator on one batch: ours and PyTorch's, and the bytes and FLOPs that it cannot avoid.

    Both functions return tensors of the same numbers, PyTorch's first [T] rows where it pads.
    """

    kernel: str
    ours: Callable[[], torch.Tensor]
    torchs: Callable[[], torch.Tensor]
    bytes: int
    flops: int = 0


def cases(size: Size, lengths: list[int], device: str, dtype: torch.dtype) -> Iterator[Case]:
    """The kernels of a layer, and those around the layers, on sequences of these lengths."""
    generator = torch.Generator(device).manual_seed(5)

    def new(*shape: int, scale: float = 1.0) -> torch.Tensor:
        return torch.randn(shape, generator=generator, device=device).mul(scale).to(dtype)

    def linear(kernel: str, depth: int, width: int, activation: str = "") -> Case:
        x, weight, bias = new(tokens, depth), new(depth, width, scale=depth**-0.5), new(width)
        after = F.gelu if activation else torch.nn.Identity()
        return Case(
            kernel,
            lambda: KERNELS["Linear"](x, weight, bias, activation=activation),
            lambda: after(torch.addmm(bias, x, weight)),
            item * (tokens * (depth + width) + depth * width + width),
            2 * tokens * depth * width,
        )

    def linear_and_norm(kernel: str, depth: int) -> Case:
        x, weight, bias = new(tokens, depth), new(depth, hidden, scale=depth**-0.5), new(hidden)
        partials = splits(tokens, depth, hidden, dtype, x.device) > 1

        def ours() -> torch.Tensor:
            y = KERNELS["Linear"](x, weight, bias, partials=partials)
            return KERNELS["AddLayerNorm"](y, gamma, beta, None, residual)

        return Case(
            kernel,
            ours,
            lambda: F.layer_norm(torch.addmm(bias, x, weight) + residual, (hidden,), gamma, beta),
            item * (tokens * (depth + 2 * hidden) + depth * hidden + 3 * hidden),
            2 * tokens * depth * hidden,
        )

    tokens, hidden = sum(lengths), size.hidden
    item = dtype.itemsize
    residual, gamma, beta = new(tokens, hidden), new(hidden), new(hidden)
    yield _embeddings(tokens, new, gamma, beta)
    yield linear("Linear: QKV", hidden, 3 * hidden)
    yield _attention(size, lengths, new)
    yield linear_and_norm("Linear + AddLayerNorm: attention output", hidden)
    yield linear("Linear: feed-forward, GELU", hidden, size.inner, "gelu")
    yield linear_and_norm("Linear + AddLayerNorm: feed-forward output", size.inner)
    x, bias = new(tokens, hidden), new(hidden)
    yield Case(
        "AddLayerNorm",
        lambda: KERNELS["AddLayerNorm"](x, gamma, beta, bias, residual),
        lambda: F.layer_norm(x + bias + residual, (hidden,), gamma, beta),
        item * (3 * tokens * hidden + 3 * hidden),
    )
    yield from _rows(x, lengths)


def _embeddings(
    tokens: int, new: Callable[..., torch.Tensor], gamma: torch.Tensor, beta: torch.Tensor
) -> Case:
    hidden = gamma.shape[0]
    tables = [new(30522, hidden), new(2, hidden), new(512, hidden)]
    generator = torch.Generator(gamma.device).manual_seed(6)
    indices = [
        torch.randint(
            len(table), (tokens,), generator=generator, device=gamma.device, dtype=torch.int32
        )
        for table in tables
    ]

    def torchs() -> torch.Tensor:
        word, kind, place = (F.embedding(i, t) for i, t in zip(indices, tables, strict=True))
        return F.layer_norm(word + kind + place, (hidden,), gamma, beta)

    return Case(
        "EmbedLayerNorm",
        lambda: KERNELS["EmbedLayerNorm"](*indices, *tables, gamma, beta),
        torchs,
        # The small tables stay in the cache.
        tokens * (2 * gamma.itemsize * hidden + 3 * 4),
    )


def _attention(size: Size, lengths: list[int], new: Callable[..., torch.Tensor]) -> Case:
    tokens, longest, width = sum(lengths), max(lengths), size.hidden // size.heads
    qkv = new(tokens, 3 * size.hidden)
    device = qkv.device
    counts = torch.tensor([0, *lengths], device=device)
    offsets = counts.cumsum(0).int()
    # PyTorch's: padded, its heads apart already, with a mask where there is padding.
    inside = torch.arange(longest, device=device) < counts[1:, None]
    padded = qkv.new_zeros(len(lengths), longest, 3, size.heads, width)
    padded[inside] = qkv.view(tokens, 3, size.heads, width)
    query, key, value = (one.contiguous() for one in padded.permute(2, 0, 3, 1, 4))
    mask = None if bool(inside.all()) else inside[:, None, None, :]

    def torchs() -> torch.Tensor:
        return F.scaled_dot_product_attention(query, key, value, mask)

    rows = torchs().transpose(1, 2)[inside].flatten(1)
    options: dict[str, Any] = {"num_heads": size.heads, "longest": longest}
    return Case(
        "PackedAttention",
        lambda: KERNELS["PackedAttention"](qkv, offsets, **options),
        _Answer(torchs, rows),
        4 * tokens * size.hidden * qkv.itemsize,
        4 * size.hidden * sum(length**2 for length in lengths),
    )


class _Answer:
    """PyTorch's function to time, whose answer in our shape is known: making it takes time too."""

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
        "MeanRows",
        lambda: KERNELS["MeanRows"](x, offsets),
        lambda: torch.segment_reduce(x.float(), "mean", lengths=counts),
        tokens * hidden * item + 4 * sequences * hidden,
    )
    yield Case(
        "UnitRows",
        lambda: KERNELS["UnitRows"](x),
        lambda: F.normalize(x.float(), eps=1e-12),
        tokens * hidden * (item + 4),
    )
