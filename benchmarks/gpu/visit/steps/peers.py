"""What there is to beat: SDPA with and without a CUDA graph, and products in several forms."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.gpu.batches import MIXED
from benchmarks.gpu.timing import capture, kernel_device, median_us, replay_us
from benchmarks.gpu.visit.inputs import make_batch, make_module, shapes
from benchmarks.gpu.visit.steps.latency import wall_times
from benchmarks.gpu.visit.visit import Visit

__all__ = ["run"]

_SECONDS = 0.7
_REPLAYS = 50
_MILLISECONDS = 20
_ROWS = (128, 1024, 4096, 16384)
_DRY_ROWS = (16,)


def run(visit: Visit) -> None:
    """Write the times of whole models, then of products."""
    device = kernel_device()
    seconds = 0.01 if visit.dry_run else _SECONDS
    with torch.inference_mode():
        module = make_module(visit).to(device, torch.float16)
        for name, lengths in shapes(visit).items():
            batch = make_batch(lengths)
            tensors = {key: torch.from_numpy(array).to(device) for key, array in batch.items()}
            eager = partial(_time_eager, module, tensors, seconds)
            visit.measure("peers", eager, peer="SDPA eager", shape=name)
            if name != MIXED:
                graph = partial(_time_graph, module, tensors)
                visit.measure("peers", graph, peer="SDPA graph alone", shape=name)
        config = module.config
        for rows in _DRY_ROWS if visit.dry_run else _ROWS:
            for sizes, way, call in _products(rows, config.hidden_size, config.intermediate_size):
                time = partial(_time_product, rows, **sizes, call=call)
                visit.measure("peers", time, product=way, rows=rows, **sizes)


def _time_eager(module: Any, tensors: dict[str, torch.Tensor], seconds: float) -> dict[str, float]:
    mask = tensors["attention_mask"][:, :, None]

    def embed() -> torch.Tensor:
        states = module(**tensors).last_hidden_state.float()
        return F.normalize((states * mask).sum(1) / mask.sum(1)).cpu()

    return wall_times(embed, seconds)


def _time_graph(module: Any, tensors: dict[str, torch.Tensor]) -> dict[str, float]:
    # Without the mask, which transformers looks at on the host.
    graph = capture(lambda: module(input_ids=tensors["input_ids"]))
    (times,) = replay_us([graph], _REPLAYS)
    return {"graph_us": float(np.median(times))}


def _time_product(rows: int, k: int, n: int, call: Callable[[], Any]) -> dict[str, float]:
    us = median_us(call, _MILLISECONDS)
    return {"us": us, "tflop_s": 2 * rows * k * n / us / 1e6}


def _products(
    rows: int, hidden: int, inner: int
) -> Iterator[tuple[dict[str, int], str, Callable[[], torch.Tensor]]]:
    """Yield the products [rows, K] · [K, N] of a layer by cuBLAS, each in several forms."""
    device = kernel_device()

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, device=device).mul(0.1).half()

    sizes = ((hidden, 3 * hidden), (hidden, hidden), (hidden, inner), (inner, hidden))
    for k, n in sizes:
        x, weight, bias = random(rows, k), random(k, n), random(n)
        transposed, residual = weight.t().contiguous(), random(rows, n)
        ways: dict[str, Callable[[], torch.Tensor]] = {
            "bias": partial(torch.addmm, bias, x, weight),
            "bias, weight [N, K]": partial(F.linear, x, transposed, bias),
            # In place, as the engine adds it, and halved, so that it stays small.
            "residual": partial(torch.addmm, residual, x, weight, beta=0.5, out=residual),
            "bias, tanh GELU": partial(torch._addmm_activation, bias, x, weight, use_gelu=True),
        }
        for way, call in ways.items():
            yield {"k": k, "n": n}, way, call
