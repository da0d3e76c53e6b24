"""What only a GPU can decide: a model's CUDA graph as it is, beside one that is made differently.

Both are replayed in turn, so that they run at about the same clock rate. A variant becomes the
engine's way when a row of this step says that it is faster.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.timing import replay_us
from benchmarks.gpu.visit.graph_runner import CapturedRun, GraphRunner
from benchmarks.gpu.visit.inputs import make_batch, make_graph, shapes
from benchmarks.gpu.visit.visit import Visit
from bertrt.kernels.engine.program import Kernels
from bertrt.kernels.engine.session import TritonSession
from bertrt.kernels.launch import cost_model
from bertrt.kernels.launch.configs import AttentionTiles
from bertrt.kernels.triton import KERNELS, choose_splits, takes_residual
from bertrt.kernels.triton.dependent_launch import dependent_launches
from bertrt.kernels.triton.hardware import get_gpu

__all__ = ["run", "variants"]

_OUTPUT = "sentence_embedding"
_REPLAYS = 40
_DRY_REPLAYS = 2


def run(visit: Visit) -> None:
    """Write the times of each variant and shape, and how far its answer is from the engine's."""
    replays = _DRY_REPLAYS if visit.dry_run else _REPLAYS
    path = make_graph(visit)
    batches = {name: make_batch(lengths) for name, lengths in shapes(visit).items()}
    default = _Model(path, Kernels(KERNELS, choose_splits, takes_residual))
    captured = {name: default.capture(batch) for name, batch in batches.items()}
    for variant, kernels in variants(dry_run=visit.dry_run).items():
        model = _Model(path, kernels)

        def compare(name: str, model: _Model = model) -> dict[str, float]:
            (ours, answer), (other, other_answer) = captured[name], model.capture(batches[name])
            our_times, other_times = replay_us([ours.graph, other.graph], replays)
            return {
                "us": float(np.median(other_times)),
                "default_us": float(np.median(our_times)),
                "differs": float(np.abs(other_answer - answer).max()),
            }

        for name in batches:
            visit.measure("pairs", partial(compare, name), variant=variant, shape=name)


class _Model:
    """The visit's model with some kernels."""

    def __init__(self, path: Path, kernels: Kernels) -> None:
        self._runner = GraphRunner()
        self._session = TritonSession(path, kernels=kernels, make_runner=lambda: self._runner)

    def capture(self, batch: dict[str, np.ndarray]) -> tuple[CapturedRun, np.ndarray]:
        """Return a batch's graph, and its answer."""
        answer = self._session.run(batch, [_OUTPUT])[_OUTPUT]
        return self._runner.last, answer


def variants(*, dry_run: bool = False) -> dict[str, Kernels]:
    """Return the kernels of each variant; dependent launches need a GPU."""

    def replace(
        table: Mapping[str, Callable[..., torch.Tensor]],
        splits: Callable[..., int] = choose_splits,
    ) -> Kernels:
        return Kernels({**KERNELS, **table}, splits, takes_residual)

    linear, attention = KERNELS["Linear"], KERNELS["PackedAttention"]
    found = {
        "products by cuBLAS": replace(
            {"Linear": partial(linear, launch="torch")}, splits=lambda *_: 1
        ),
        "products by Triton": Kernels({**KERNELS, "Linear": _linear_by_triton}, choose_splits),
        "residual in LayerNorm": Kernels(KERNELS, choose_splits),
        "attention with four warps": replace(
            {"PackedAttention": partial(attention, tiles=AttentionTiles(128, 64, 4, 3))}
        ),
        "attention with eight warps": replace(
            {"PackedAttention": partial(attention, tiles=AttentionTiles(128, 64, 8, 3))}
        ),
    }
    if not dry_run:
        found["dependent launches"] = replace(
            {name: partial(_launch_dependent, kernel) for name, kernel in KERNELS.items()}
        )
    return found


def _linear_by_triton(
    x: torch.Tensor, weight: torch.Tensor, *rest: Any, transposed: int = 0, **options: Any
) -> torch.Tensor:
    if not options.get("partials"):
        sizes = (*x.shape, weight.shape[0 if transposed else 1], x.element_size())
        options["launch"] = cost_model.linear_candidates(get_gpu(x.device), *sizes)[0]
    return KERNELS["Linear"](x, weight, *rest, transposed=transposed, **options)


def _launch_dependent(kernel: Callable[..., torch.Tensor], *args: Any, **options: Any) -> Any:
    with dependent_launches():
        return kernel(*args, **options)
