"""An array in a checkpoint's file: its shape at once, its numbers when they are asked for.

Names and shapes are checked before numbers are read, so that a file cannot ask for more memory than
its config does, and what is left out (an optimizer's state is twice the model) is never read.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

__all__ = ["Contents", "Stored", "in_memory"]


@dataclass(frozen=True)
class Stored:
    """One array as its file has it; `read` raises ExportError when its bytes are damaged."""

    shape: tuple[int, ...]
    read: Callable[[], torch.Tensor]


@dataclass(frozen=True)
class Contents:
    """What the weight files of a checkpoint hold.

    `format` is for the manifest; `scheme` names the way in which the arrays are named, a key of
    `mapping.SCHEMES` or "pytorch"; `arrays` are by their names in the files.
    """

    format: str
    scheme: str
    arrays: dict[str, Stored]


def in_memory(tensors: Mapping[str, torch.Tensor]) -> dict[str, Stored]:
    """Tensors that are there already, or mapped from their file."""
    return {name: _held(tensor) for name, tensor in tensors.items()}


def _held(tensor: torch.Tensor) -> Stored:
    return Stored(tuple(tensor.shape), lambda: tensor)
