"""Weights out of safetensors and PyTorch's pickles, without running anything that they hold."""

import zipfile
from pathlib import Path

import safetensors
import torch

from bertrt.errors import ExportError
from bertrt.export.checkpoints.formats.stored import Contents, in_memory

__all__ = ["read_pickle", "read_safetensors"]

# By a safetensors file's metadata: its format for the manifest, and how its tensors are named.
_FRAMEWORKS = {
    "pt": ("safetensors", "pytorch"),
    "tf": ("safetensors of TensorFlow", "keras"),
    "flax": ("safetensors of Flax", "flax"),
}
# How names end in files of TensorFlow or Flax that do not say so.
_TENSORFLOW_ENDS = (":0", "/kernel", "/embeddings")
_FLAX_ENDS = (".kernel", ".scale", ".embedding")


def read_safetensors(path: Path) -> Contents:
    """The tensors of a safetensors file, by name, with the stored dtypes.

    The framework whose names they have is what the file says, or what its names look like.

    Raises ExportError when the file is damaged.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            names = list(file.keys())
            format, scheme = _FRAMEWORKS[_framework(file.metadata() or {}, names)]
            return Contents(
                format, scheme, in_memory({name: file.get_tensor(name) for name in names})
            )
    except (safetensors.SafetensorError, OSError) as error:
        raise ExportError(f"{path.name} is damaged ({error}): fetch it again") from error


def _framework(metadata: dict[str, str], names: list[str]) -> str:
    """The framework that wrote a file, as its metadata would name it."""
    stated = metadata.get("format")
    if stated is not None:
        return stated if stated in _FRAMEWORKS else "pt"
    if any(name.endswith(_TENSORFLOW_ENDS) for name in names):
        return "tf"
    if any(name.endswith(_FLAX_ENDS) for name in names):
        return "flax"
    return "pt"


def read_pickle(path: Path) -> Contents:
    """The tensors of a `pytorch_model.bin`, by name, with the stored dtypes.

    The file is a pickle, so only tensors and plain containers are loaded from it. Raises
    ExportError when it is damaged, holds any other object, or is not a table of tensors.
    """
    try:
        # Files from before PyTorch 1.6 are no zip archives and cannot be mapped.
        loaded = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except Exception as error:
        # A damaged file makes the reader fail in a dozen ways.
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ExportError(
            f"{path.name} cannot be read: it is damaged, or holds objects other than tensors, "
            f"which are not loaded since they can run code ({reason})"
        ) from error
    if not isinstance(loaded, dict):
        raise ExportError(
            f"{path.name} holds a {type(loaded).__name__} and no weights by name: save the model's "
            "state_dict"
        )
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise ExportError(
                f"{path.name} holds {name!r}, a {type(value).__name__} and no tensor: save the "
                "model's state_dict alone"
            )
    return Contents("pytorch_model.bin", "pytorch", in_memory(loaded))
