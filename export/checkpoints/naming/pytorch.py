"""Weights' names as PyTorch's BERT has them today, from those that older files have."""

import re

import torch

from bertrt.errors import ExportError

__all__ = ["pytorch_names"]

# What DataParallel and torch.compile put before every name of the model that they wrap.
_WRAPPERS = ("module.", "_orig_mod.")

# TensorFlow's names for a LayerNorm's weight and bias, which the first ports kept.
_LEGACY = {"gamma": "weight", "beta": "bias"}
_LEGACY_NAME = re.compile(r"(?<=LayerNorm\.)(gamma|beta)$")


def pytorch_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors, with wrappers' prefixes gone and LayerNorm's gamma and beta renamed.

    Raises ExportError when two weights come to have one name.
    """
    prefix = ""
    while weights and (wrapper := _common_wrapper(weights, prefix)):
        prefix += wrapper
    renamed: dict[str, torch.Tensor] = {}
    for stored, tensor in weights.items():
        name = _LEGACY_NAME.sub(lambda match: _LEGACY[match[0]], stored.removeprefix(prefix))
        if name in renamed:
            raise ExportError(
                f"the checkpoint holds {name!r} twice, under an old name and a new one: "
                "save it again with one of them"
            )
        renamed[name] = tensor
    return renamed


def _common_wrapper(weights: dict[str, torch.Tensor], prefix: str) -> str | None:
    for wrapper in _WRAPPERS:
        if all(name.startswith(prefix + wrapper) for name in weights):
            return wrapper
    return None
