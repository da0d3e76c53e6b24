"""Convert older weight names to those of PyTorch's BERT today."""

import re

import torch

from bertrt.errors import ExportError

__all__ = ["pytorch_names"]

# The prefixes that DataParallel and torch.compile add to every name.
_WRAPPERS = ("module.", "_orig_mod.")

# TensorFlow's names of a LayerNorm's weight and bias, which the first PyTorch checkpoints have.
_LAYER_NORM = {"gamma": "weight", "beta": "bias"}
_LAYER_NORM_NAME = re.compile(r"(?<=LayerNorm\.)(gamma|beta)$")


def pytorch_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Remove wrappers' prefixes from weight names, and rename LayerNorm's gamma and beta.

    Raises ExportError if two weights get the same name.
    """
    prefix = ""
    while weights and (wrapper := _common_wrapper(weights, prefix)):
        prefix += wrapper
    renamed: dict[str, torch.Tensor] = {}
    for stored, tensor in weights.items():
        name = stored.removeprefix(prefix)
        name = _LAYER_NORM_NAME.sub(lambda match: _LAYER_NORM[match[0]], name)
        if name in renamed:
            raise ExportError(
                f"the checkpoint has {name!r} twice, under an old and a new name: save it again "
                "with one of them"
            )
        renamed[name] = tensor
    return renamed


def _common_wrapper(weights: dict[str, torch.Tensor], prefix: str) -> str | None:
    """Return the wrapper's prefix that all names have after `prefix`, or None."""
    for wrapper in _WRAPPERS:
        if all(name.startswith(prefix + wrapper) for name in weights):
            return wrapper
    return None
