"""Check and measure input arrays that are on the device, without copying them to the host.

This accepts what `bertrt.arrays.inputs.complete_inputs` accepts, and waits for the device once.
It does not say what is wrong with other arrays: that is left to `complete_inputs`.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import torch

from bertrt.arrays.inputs import complete_flags
from bertrt.arrays.interop import to_numpy
from bertrt.artifact.manifest import TensorSpec
from bertrt.artifact.model_config import ModelConfig
from bertrt.kernels.engine.boundary_ops import BatchSizes

__all__ = ["TENSOR_INPUTS", "DeviceInputs", "complete_device_inputs"]

Tensor: TypeAlias = torch.Tensor

# The inputs that may be on the device. The others are flags, which the host reads.
TENSOR_INPUTS = ("input_ids", "attention_mask", "token_type_ids")

_INTEGERS = {
    *(torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
}


class DeviceInputs(dict[str, Any]):
    """A graph's inputs: int64 tensors [..., S] on the device, and flags as numpy arrays.

    `sizes` is what the host knows about the tensors.
    """

    def __init__(self, values: Mapping[str, Any], sizes: BatchSizes) -> None:
        """Combine inputs that were checked with their sizes."""
        super().__init__(values)
        self.sizes = sizes


def complete_device_inputs(
    arrays: Mapping[str, Any],
    specs: tuple[TensorSpec, ...],
    config: ModelConfig,
    device: torch.device,
    mask_id: int | None,
) -> DeviceInputs | None:
    """Check the caller's arrays on the device, and add the inputs that have a default.

    Args:
        arrays: arrays by name, of any library that supports DLPack. Those on the host are copied
            to the device.
        specs: the graph's inputs.
        config: the sizes to check against.
        device: where the tensors have to be.
        mask_id: the mask token's id, if the graph selects mask tokens.

    Returns None for arrays that `complete_inputs` would refuse, and for a graph that has other
    inputs: the caller then uses `complete_inputs`. Raises InputError for an invalid flag, and for
    a value on the host that is not an array.
    """
    specs_by_name = {spec.name: spec for spec in specs}
    supported = {spec.name for spec in specs if spec.name in TENSOR_INPUTS or spec.dtype == "bool"}
    if arrays.get("input_ids") is None or not set(arrays) <= set(specs_by_name) == supported:
        return None
    tensors = {name: _to_int64_tensor(name, arrays.get(name), device) for name in TENSOR_INPUTS}
    ids, mask, types = (tensors[name] for name in TENSOR_INPUTS)
    if ids is None:
        return None
    mask = torch.ones_like(ids) if arrays.get("attention_mask") is None else mask
    types = torch.zeros_like(ids) if arrays.get("token_type_ids") is None else types
    if mask is None or types is None or not ids.shape == mask.shape == types.shape:
        return None
    if (
        ids.ndim != len(specs_by_name["input_ids"].shape)
        or ids.shape[-1] > config.max_position_embeddings
        or ids.numel() == 0
    ):
        return None
    sizes = _check_and_measure(ids, mask, types, config, mask_id)
    if sizes is None:
        return None
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    return DeviceInputs({**inputs, **complete_flags(arrays, specs)}, sizes)


def _to_int64_tensor(name: str, value: Any, device: torch.device) -> Tensor | None:
    """Return an integer array as an int64 tensor on the device; None for anything else."""
    if value is None:
        return None
    if not isinstance(value, torch.Tensor):
        try:
            value = torch.from_dlpack(value)
        except Exception:  # a list, a read-only array, or a library that cannot export its array
            array = to_numpy(name, value)
            value = torch.tensor(array) if array.dtype.kind in "iub" else None
    is_bool_mask = name == "attention_mask" and value is not None and value.dtype == torch.bool
    if value is None or not (is_bool_mask or value.dtype in _INTEGERS):
        return None
    return value.to(device, torch.int64)


def _check_and_measure(
    ids: Tensor, mask: Tensor, types: Tensor, config: ModelConfig, mask_id: int | None
) -> BatchSizes | None:
    """Return the batch's sizes; None if ids, types or mask have invalid values.

    Everything is reduced to one small tensor, so that the host waits for the device once.
    """
    lengths = mask.sum(-1)
    masks = ((ids == mask_id) & (mask != 0)).sum() if mask_id is not None else lengths.new_zeros(())
    facts = torch.stack(
        [
            *(*ids.aminmax(), *types.aminmax(), *mask.aminmax()),
            *(mask[..., 0].amin(), lengths.sum(), lengths.amax(), masks),
        ]
    ).tolist()
    ranges = (
        (facts[0:2], config.vocab_size),
        (facts[2:4], config.type_vocab_size),
        (facts[4:6], 2),
    )
    in_range = all(least >= 0 and most < size for (least, most), size in ranges)
    first_token_is_real = facts[6] == 1
    return BatchSizes(*facts[7:]) if in_range and first_token_is_real else None
