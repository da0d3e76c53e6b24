"""The device steps of a plan as kernel launches."""

from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch

from bertrt.kernels.engine.plan import Plan, Step

__all__ = ["Kernels", "Program", "remove_padding"]


def _never_split(*_: Any) -> int:
    return 1


def _never(*_: Any) -> bool:
    return False


@dataclass(frozen=True)
class Kernels:
    """The kernels of the DEVICE operators, by ONNX name.

    The functions in `table` take the arguments of the operators' references, as tensors; attention
    also takes `max_length` and `block_maps`, a dictionary that is empty at first, for whatever the
    attention of all layers of a run shares.
    `choose_splits` has the signature of `bertrt.kernels.triton.choose_splits`; if it returns more
    than 1, a Linear computes partial sums. `takes_residual` has that of
    `bertrt.kernels.triton.takes_residual`; where it is true, a Linear whose result is added to a
    residual gets that as `residual`, and overwrites it with the sum.
    """

    table: Mapping[str, Callable[..., torch.Tensor]]
    choose_splits: Callable[..., int] = _never_split
    takes_residual: Callable[..., bool] = _never


class Program:
    """A plan with its weights and kernels. It holds no state of a run."""

    def __init__(
        self,
        plan: Plan,
        weights: Mapping[str, torch.Tensor],
        kernels: Kernels,
        columns: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Combine a plan with weights and kernels.

        Args:
            plan: the plan.
            weights: its weights on the device, and possibly more.
            kernels: what runs its nodes.
            columns: the number of columns without padding of values that have padding columns; see
                `bertrt.kernels.engine.padded_columns`.
        """
        self.plan = plan
        self._weights = {name: weights[name] for name in plan.weights}
        self._kernels = kernels
        self._columns = columns

    def launch(
        self, uploads: Mapping[str, torch.Tensor], max_length: int
    ) -> dict[str, torch.Tensor]:
        """Launch every device step, without waiting for the device.

        Args:
            uploads: the int32 tensors of an `UploadBuffer`.
            max_length: no sequence has more tokens.

        Returns the plan's device results, float32, including the bucket's padding rows. They may
        be views of the columns without padding.
        """
        values: dict[str, Any] = {**self._weights, **uploads}
        attention = {"max_length": max_length, "block_maps": {}}
        for step in self.plan.device:
            values[step.node.outputs[0]] = self._launch_step(step, values, attention)
            for name in step.frees:
                values.pop(name, None)
        return {name: self._to_float(name, values) for name in self.plan.device_results}

    def _launch_step(
        self, step: Step, values: dict[str, Any], attention: Mapping[str, Any]
    ) -> torch.Tensor:
        node = step.node
        inputs = [values[name] if name else None for name in node.inputs]
        if node.op_type == "Cast":
            return self._to_float(node.inputs[0], values)
        options: dict[str, Any] = {}
        if node.op_type == "PackedAttention":
            options.update(attention)
        elif step.allows_partial_sums and self._kernels.choose_splits(*_sizes(step, values)) > 1:
            options["partials"] = True
        elif step.residual and self._kernels.takes_residual(*_sizes(step, values)):
            # What adds it to the product later finds none.
            options["residual"], values[step.residual] = values[step.residual], None
        return self._kernels.table[node.op_type](*inputs, **node.attributes, **options)

    def _to_float(self, name: str, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return a value in float32, without padding columns."""
        return values[name][:, : self._columns.get(name)].float()


def _sizes(
    step: Step, values: Mapping[str, torch.Tensor]
) -> tuple[int, int, int, torch.dtype, torch.device]:
    """Return T, K, N, the dtype and the device of a Linear's product."""
    x, weight = (values[name] for name in step.node.inputs[:2])
    columns = weight.shape[0 if step.node.attributes["transposed"] else 1]
    return x.shape[0], x.shape[1], columns, x.dtype, x.device


def remove_padding(
    plan: Plan, results: Mapping[str, torch.Tensor], arrays: Mapping[str, Sized]
) -> dict[str, torch.Tensor]:
    """Return views of the results without the bucket's padding rows.

    Args:
        plan: the plan that was run.
        results: the results of `Program.launch`.
        arrays: the run's uploads before padding; their lengths give the numbers of rows.
    """
    return {
        name: results[name][: len(arrays[rows.upload]) + rows.extra]
        for name, rows in plan.device_results.items()
    }
