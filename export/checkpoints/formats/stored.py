"""An array in a checkpoint's file: its shape is known at once, its values are read on demand.

Names and shapes are checked before values are read, so that a file cannot allocate more memory than
its config implies, and ignored arrays (an optimizer's state is twice the model) are never read.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

__all__ = ["Contents", "Stored", "in_memory"]


@dataclass(frozen=True)
class Stored:
    """One array in a file; `read` raises ExportError if its bytes are damaged."""

    shape: tuple[int, ...]
    read: Callable[[], torch.Tensor]


@dataclass(frozen=True)
class Contents:
    """The contents of a checkpoint's weight files.

    Attributes:
        format: the format's name, for the manifest.
        scheme: the scheme of the arrays' names: a key of `mapping.SCHEMES`, or "pytorch".
        arrays: the arrays by their names in the files.
    """

    format: str
    scheme: str
    arrays: dict[str, Stored]


def in_memory(tensors: Mapping[str, torch.Tensor]) -> dict[str, Stored]:
    """Wrap tensors that are in memory, or memory-mapped."""
    return {name: _stored(tensor) for name, tensor in tensors.items()}


def _stored(tensor: torch.Tensor) -> Stored:
    return Stored(tuple(tensor.shape), lambda: tensor)
