"""How far from float32 the answers are, beside eager PyTorch's in float16."""

from typing import Any

import numpy as np
import torch

from benchmarks.gpu.timing import kernel_device
from benchmarks.gpu.visit.inputs import make_batch, make_graph, make_module, shapes
from benchmarks.gpu.visit.visit import Visit
from bertrt.kernels.engine.session import TritonSession

__all__ = ["run"]

_OUTPUT = "last_hidden_state"


def run(visit: Visit) -> None:
    """Write the root mean square errors of each shape."""
    device = kernel_device()
    exact = make_module(visit).to(device)
    eager = make_module(visit).to(device, torch.float16)
    session = TritonSession(make_graph(visit))

    def compare(batch: dict[str, np.ndarray]) -> dict[str, Any]:
        inside = batch["attention_mask"] == 1
        tensors = {key: torch.from_numpy(array).to(device) for key, array in batch.items()}
        with torch.inference_mode():
            expected, half = (
                module(**tensors)[_OUTPUT].float().cpu().numpy()[inside]
                for module in (exact, eager)
            )
        eager_rms = _rms(half - expected)
        launched, replayed = (
            _rms(session.run(batch, [_OUTPUT])[_OUTPUT][inside] - expected) for _ in range(2)
        )
        return {
            "rms": launched,
            "replayed_rms": replayed,
            "eager_rms": eager_rms,
            # The exporter's bound; see docs/guides/gpu.md.
            "right": max(launched, replayed) <= 2 * eager_rms,
        }

    for name, lengths in shapes(visit).items():
        visit.measure("answers", lambda lengths=lengths: compare(make_batch(lengths)), shape=name)


def _rms(error: np.ndarray) -> float:
    return float(np.sqrt(np.square(error).mean()))
