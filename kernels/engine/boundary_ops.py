"""The operators of ENTRY and EXIT, for numpy arrays on the host and for tensors on the device.

On the host they are the operators' references. On tensors they compute the same, so that arrays
on the device stay there. Flags and the graph's initializers are numpy arrays in both cases.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch

from bertrt.kernels.engine.plan import Step
from bertrt.kernels.ops.operator import Stage
from bertrt.kernels.ops.registry import OPERATORS, STANDARD_OPERATORS

__all__ = [
    "DEVICE_EXIT_OPERATORS",
    "HOST_OPERATORS",
    "BatchSizes",
    "device_entry_operators",
    "run_steps",
]

# By the operators' ONNX names.
Functions: TypeAlias = Mapping[str, Callable[..., Any]]
Tensor: TypeAlias = torch.Tensor


@dataclass(frozen=True)
class BatchSizes:
    """The sizes of a batch on the device, which the host has to know.

    Attributes:
        tokens: T.
        max_length: the number of tokens of the longest sequence.
        masks: the number of mask tokens among the T; 0 if the graph does not select them.
    """

    tokens: int
    max_length: int
    masks: int


def _pack(
    input_ids: Tensor,
    token_type_ids: Tensor,
    attention_mask: Tensor,
    *,
    sizes: BatchSizes,
    padding_id: int = -1,
) -> tuple[Tensor, ...]:
    length = input_ids.shape[-1]
    mask = attention_mask.reshape(-1, length) != 0
    # With the size given, this does not wait for the device to count.
    rows = torch.nonzero_static(mask.flatten(), size=sizes.tokens).flatten()
    if padding_id < 0:
        positions = rows % length
    else:
        counted = input_ids.reshape(-1, length) != padding_id
        positions = (counted.cumsum(1) * counted + padding_id).flatten()[rows]
    packed = (
        input_ids.flatten()[rows],
        token_type_ids.flatten()[rows],
        positions,
        rows,
        torch.nn.functional.pad(mask.sum(1).cumsum(0), (1, 0)),
    )
    return tuple(tensor.int() for tensor in packed)


def _first_rows(offsets: Tensor, rows: Tensor, only: np.ndarray | None = None) -> Tensor:
    if only is not None and not only:
        return torch.arange(len(rows), dtype=torch.int32, device=rows.device)
    return offsets[:-1].clamp(max=max(len(rows) - 1, 0))


def _masked_rows(ids: Tensor, only: np.ndarray, *, mask_id: int, sizes: BatchSizes) -> Tensor:
    if not only:
        return torch.arange(len(ids), dtype=torch.int32, device=ids.device)
    return torch.nonzero_static(ids == mask_id, size=sizes.masks).flatten().int()


def _picked_offsets(picked: Tensor, offsets: Tensor) -> Tensor:
    return torch.searchsorted(picked, offsets, out_int32=True)


def _unpack(x: Tensor, input_ids: Any, rows: Tensor, only: np.ndarray | None = None) -> Tensor:
    if only is not None and only:
        return x[:, None]
    padded = x.new_zeros(math.prod(input_ids.shape), x.shape[1])
    padded[rows.long()] = x
    return padded.reshape(*input_ids.shape, x.shape[1])


def _regroup(x: Tensor, input_ids: Any) -> Tensor:
    return x.reshape(tuple(input_ids.shape[:-1]))


HOST_OPERATORS: Functions = {
    name: op.reference
    for name, op in {**OPERATORS, **STANDARD_OPERATORS}.items()
    if op.stage is not Stage.DEVICE
}
DEVICE_EXIT_OPERATORS: Functions = {
    "Unpack": _unpack,
    "Regroup": _regroup,
    # The references of the standard operators take tensors too.
    **{n: op.reference for n, op in STANDARD_OPERATORS.items() if op.stage is Stage.EXIT},
}


def device_entry_operators(sizes: BatchSizes) -> Functions:
    """Return ENTRY's operators on tensors for a batch of these sizes; none waits for the device."""
    return {
        "Pack": partial(_pack, sizes=sizes),
        "FirstRows": _first_rows,
        "MaskedRows": partial(_masked_rows, sizes=sizes),
        "PickedOffsets": _picked_offsets,
    }


def run_steps(steps: Sequence[Step], values: dict[str, Any], operators: Functions) -> None:
    """Run the steps of ENTRY or EXIT: read and write `values`, in place."""
    for step in steps:
        node = step.node
        inputs = [values[name] if name else None for name in node.inputs]
        results = operators[node.op_type](*inputs, **node.attributes)
        results = results if isinstance(results, tuple) else (results,)
        values.update(zip(node.outputs, results, strict=True))
        for name in step.frees:
            values.pop(name, None)
