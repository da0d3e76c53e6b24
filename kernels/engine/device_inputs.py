"""Arrays that are on the device, on their way into the graph: checked and measured there.

`bertrt.arrays.inputs.complete_inputs` says what a graph takes. Here the same is asked of tensors,
with one wait for the answer. What does not pass is for the host, which says what is wrong.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

import torch

from bertrt.arrays.inputs import complete_flags
from bertrt.arrays.interop import to_numpy
from bertrt.artifact.manifest import TensorSpec
from bertrt.artifact.model_config import ModelConfig
from bertrt.kernels.engine.boundary_ops import Sizes

__all__ = ["NAMES", "DeviceFeeds", "complete_device_feeds"]

Tensor: TypeAlias = torch.Tensor

# The inputs that may be on the device; the others are truth values, which the host asks.
NAMES = ("input_ids", "attention_mask", "token_type_ids")

_INTEGERS = {
    *(torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
}


class DeviceFeeds(dict[str, Any]):
    """A graph's inputs: int64 tensors [..., S] on the device, and numpy truth values.

    `sizes` is what the host knows of the tensors.
    """

    def __init__(self, values: Mapping[str, Any], sizes: Sizes) -> None:
        """Join inputs that were checked with their sizes."""
        super().__init__(values)
        self.sizes = sizes


def complete_device_feeds(
    given: Mapping[str, Any],
    inputs: tuple[TensorSpec, ...],
    config: ModelConfig,
    device: torch.device,
    mask_id: int | None,
) -> DeviceFeeds | None:
    """Check the caller's arrays on the device, and add those that have a default.

    Args:
        given: name to array, of any library that speaks DLPack; those on the host go up.
        inputs, config: as for `complete_inputs`.
        device: where the tensors have to be.
        mask_id: the mask token's id, where the graph tells mask tokens apart.

    Returns None for what `complete_inputs` would refuse, or for a graph with other inputs than
    these: then the host shall do it. Raises InputError for truth values that are none, and for
    arrays on the host that are none. Waits for the device once.
    """
    specs = {spec.name: spec for spec in inputs}
    known = {name for name, spec in specs.items() if name in NAMES or spec.dtype == "bool"}
    if given.get("input_ids") is None or not set(given) <= set(specs) == known:
        return None
    arrays = {name: _tensor(name, given.get(name), device) for name in NAMES}
    ids, mask, types = (arrays[name] for name in NAMES)
    if ids is None:
        return None
    mask = torch.ones_like(ids) if given.get("attention_mask") is None else mask
    types = torch.zeros_like(ids) if given.get("token_type_ids") is None else types
    if mask is None or types is None or not ids.shape == mask.shape == types.shape:
        return None
    right = ids.ndim == len(specs["input_ids"].shape) and ids.shape[-1] <= (
        config.max_position_embeddings
    )
    sizes = _measured(ids, mask, types, config, mask_id) if right and ids.numel() else None
    if sizes is None:
        return None
    tensors = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    return DeviceFeeds({**tensors, **complete_flags(given, inputs)}, sizes)


def _tensor(name: str, value: Any, device: torch.device) -> Tensor | None:
    """An array as an int64 tensor on the device; None for what is no array of integers."""
    if value is None:
        return None
    if not isinstance(value, torch.Tensor):
        try:
            value = torch.from_dlpack(value)
        except Exception:  # lists, read-only arrays, and whatever a library cannot hand over
            array = to_numpy(name, value)
            value = torch.tensor(array) if array.dtype.kind in "iub" else None
    truth = name == "attention_mask" and value is not None and value.dtype == torch.bool
    if value is None or not (truth or value.dtype in _INTEGERS):
        return None
    return value.to(device, torch.int64)


def _measured(
    ids: Tensor, mask: Tensor, types: Tensor, config: ModelConfig, mask_id: int | None
) -> Sizes | None:
    """The batch's sizes; None when ids, types or mask are not what they have to be."""
    counts = mask.sum(-1)
    masks = ((ids == mask_id) & (mask != 0)).sum() if mask_id is not None else counts.new_zeros(())
    facts = torch.stack(
        [
            *(*ids.aminmax(), *types.aminmax(), *mask.aminmax()),
            *(mask[..., 0].amin(), counts.sum(), counts.amax(), masks),
        ]
    ).tolist()
    ranges = (
        (facts[0:2], config.vocab_size),
        (facts[2:4], config.type_vocab_size),
        (facts[4:6], 2),
    )
    if any(least < 0 or most >= size for (least, most), size in ranges) or facts[6] != 1:
        return None
    return Sizes(*facts[7:])
