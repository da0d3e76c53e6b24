"""ENTRY and EXIT, where arrays come in and go out: on the host in numpy, on the device in torch.

On the host the operators are the dialect's references. On tensors they mean the same, so that what
is on the device need not leave it. Inputs that are truth values, and the graph's own initializers,
are numpy's in both.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch

from bertrt.kernels.engine.plan import Step
from bertrt.kernels.engine.standard_ops import STANDARD_EXITS
from bertrt.kernels.ops import OPERATORS, Place

__all__ = ["EXIT_ON_DEVICE", "ON_HOST", "Sizes", "entry_on_device", "run_steps"]

Operators: TypeAlias = Mapping[str, Callable[..., Any]]
Tensor: TypeAlias = torch.Tensor


@dataclass(frozen=True)
class Sizes:
    """What the host has to know of a batch on the device.

    `tokens` is T, `longest` the most tokens of a sequence, and `masks` the number of mask tokens
    among the T; 0 where the graph does not tell them apart.
    """

    tokens: int
    longest: int
    masks: int


def _pack(
    input_ids: Tensor, token_type_ids: Tensor, attention_mask: Tensor, *, sizes: Sizes
) -> tuple[Tensor, ...]:
    length = input_ids.shape[-1]
    mask = attention_mask.reshape(-1, length) != 0
    # As many as are known to be there, so that nothing waits for the device to count them.
    rows = torch.nonzero_static(mask.flatten(), size=sizes.tokens).flatten()
    packed = (
        input_ids.flatten()[rows],
        token_type_ids.flatten()[rows],
        rows % length,
        rows,
        torch.nn.functional.pad(mask.sum(1).cumsum(0), (1, 0)),
    )
    return tuple(one.int() for one in packed)


def _first_rows(offsets: Tensor, rows: Tensor, only: np.ndarray | None = None) -> Tensor:
    if only is not None and not only:
        return torch.arange(len(rows), dtype=torch.int32, device=rows.device)
    return offsets[:-1].clamp(max=max(len(rows) - 1, 0))


def _masked_rows(ids: Tensor, only: np.ndarray, *, mask_id: int, sizes: Sizes) -> Tensor:
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


# By the operators' ONNX names.
ON_HOST: Operators = {
    **{one.name: one.reference for one in OPERATORS.values() if one.place is not Place.DEVICE},
    **STANDARD_EXITS,
}
EXIT_ON_DEVICE: Operators = {"Unpack": _unpack, "Regroup": _regroup, **STANDARD_EXITS}


def entry_on_device(sizes: Sizes) -> Operators:
    """ENTRY's operators on tensors, for a batch of these sizes: none of them waits."""
    return {
        "Pack": partial(_pack, sizes=sizes),
        "FirstRows": _first_rows,
        "MaskedRows": partial(_masked_rows, sizes=sizes),
        "PickedOffsets": _picked_offsets,
    }


def run_steps(steps: Sequence[Step], values: dict[str, Any], operators: Operators) -> None:
    """Run ENTRY's or EXIT's steps, in place."""
    for step in steps:
        node = step.node
        given = [values[name] if name else None for name in node.inputs]
        made = operators[node.operator](*given, **node.attributes)
        values.update(zip(node.outputs, made if isinstance(made, tuple) else (made,), strict=True))
        for name in step.dies:
            values.pop(name, None)
