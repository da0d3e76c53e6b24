"""A plan's device steps as kernel launches, and what of their results is real."""

from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from bertrt.kernels.engine.plan import Plan, Step

__all__ = ["Kernels", "Program", "real_rows", "to_tensor"]


def _one(*_: Any) -> int:
    return 1


@dataclass(frozen=True)
class Kernels:
    """What runs each operator of the device, by its ONNX name, and how it splits a product.

    `table` has functions with the arguments of the dialect's references, on tensors. `splits` is
    as in `bertrt.kernels.triton`; where it gives more than 1, a Linear passes partial sums.
    """

    table: Mapping[str, Callable[..., torch.Tensor]]
    splits: Callable[..., int] = _one


class Program:
    """A plan with the weights and the kernels that run it; it holds no state of a run."""

    def __init__(self, plan: Plan, weights: Mapping[str, torch.Tensor], kernels: Kernels) -> None:
        """Join the parts. `weights` are on the device, and may be more than the plan's."""
        self.plan = plan
        self._weights = {name: weights[name] for name in plan.weights}
        self._kernels = kernels

    def launch(self, uploads: Mapping[str, torch.Tensor], longest: int) -> dict[str, torch.Tensor]:
        """Launch every device step; nothing here waits for the device.

        Args:
            uploads: int32 tensors, as from `Staging`.
            longest: no sequence has more tokens than this.

        Returns the plan's results, float32, with as many rows as the uploads give them.
        """
        values = {**self._weights, **uploads}
        for step in self.plan.device:
            values[step.node.outputs[0]] = self._run(step, values, longest)
            for name in step.dies:
                values.pop(name, None)
        return {name: values[name].float() for name in self.plan.results}

    def _run(self, step: Step, values: Mapping[str, torch.Tensor], longest: int) -> torch.Tensor:
        node = step.node
        given = [values[name] if name else None for name in node.inputs]
        if node.operator == "Cast":
            return values[node.inputs[0]].float()
        more: dict[str, Any] = {}
        if node.operator == "PackedAttention":
            more["longest"] = longest
        elif step.sums and self._splits(values, step) > 1:
            more["partials"] = True
        return self._kernels.table[node.operator](*given, **node.attributes, **more)

    def _splits(self, values: Mapping[str, torch.Tensor], step: Step) -> int:
        x, weight = (values[name] for name in step.node.inputs[:2])
        columns = weight.shape[0 if step.node.attributes["transposed"] else 1]
        return self._kernels.splits(x.shape[0], x.shape[1], columns, x.dtype, x.device)


def real_rows(
    plan: Plan, results: Mapping[str, torch.Tensor], arrays: Mapping[str, Sized]
) -> dict[str, torch.Tensor]:
    """The results without the bucket's padding; views.

    Args:
        plan: what was run.
        results: as from `Program.launch`.
        arrays: what ENTRY made, whose lengths say how many rows are real.
    """
    return {
        name: results[name][: len(arrays[height.upload]) + height.more]
        for name, height in plan.results.items()
    }


def to_tensor(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """An array on the device, of the same dtype; bfloat16 too, which numpy itself has not."""
    array = np.array(array, order="C")
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16).to(device)
    return torch.from_numpy(array).to(device)
