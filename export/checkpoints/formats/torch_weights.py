"""Read safetensors files and PyTorch's pickles, without running code from them."""

import zipfile
from pathlib import Path

import safetensors
import torch

from bertrt.errors import ExportError
from bertrt.export.checkpoints.error_reason import error_reason
from bertrt.export.checkpoints.formats.stored import Contents, in_memory

__all__ = ["read_pickle", "read_safetensors"]

# The format for the manifest and the naming scheme, by the framework in a safetensors' metadata.
_FRAMEWORKS = {
    "pt": ("safetensors", "pytorch"),
    "tf": ("safetensors of TensorFlow", "keras"),
    "flax": ("safetensors of Flax", "flax"),
}
# Endings of names in TensorFlow's and Flax' files, for those without metadata.
_TENSORFLOW_ENDINGS = (":0", "/kernel", "/embeddings")
_FLAX_ENDINGS = (".kernel", ".scale", ".embedding")


def read_safetensors(path: Path) -> Contents:
    """Return the tensors of a safetensors file, by name, with the stored dtypes.

    The naming scheme follows from the file's metadata or, without it, from the names.

    Raises ExportError if the file is damaged.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            names = list(file.keys())
            format, scheme = _FRAMEWORKS[_framework(file.metadata() or {}, names)]
            return Contents(
                format, scheme, in_memory({name: file.get_tensor(name) for name in names})
            )
    except (safetensors.SafetensorError, OSError) as error:
        raise ExportError(f"{path.name} is damaged ({error}): download it again") from error


def _framework(metadata: dict[str, str], names: list[str]) -> str:
    """Return the framework that wrote a file, by its name in metadata."""
    format = metadata.get("format")
    if format is not None:
        return format if format in _FRAMEWORKS else "pt"
    if any(name.endswith(_TENSORFLOW_ENDINGS) for name in names):
        return "tf"
    if any(name.endswith(_FLAX_ENDINGS) for name in names):
        return "flax"
    return "pt"


def read_pickle(path: Path) -> Contents:
    """Return the tensors of a `pytorch_model.bin`, by name, with the stored dtypes.

    The file is a pickle, so only tensors and plain containers are loaded from it. Raises
    ExportError if it is damaged, has any other object, or is not a dictionary of tensors.
    """
    try:
        # Files from before PyTorch 1.6 are not zip archives and cannot be memory-mapped.
        loaded = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except Exception as error:
        # torch.load raises many classes of errors for a damaged file.
        raise ExportError(
            f"{path.name} cannot be read: it is damaged, or holds objects other than tensors, "
            f"which are not loaded because they can run code ({error_reason(error)})"
        ) from error
    if not isinstance(loaded, dict):
        raise ExportError(
            f"{path.name} holds a {type(loaded).__name__}, not weights by name: save the model's "
            "state_dict"
        )
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise ExportError(
                f"{path.name} holds {name!r}, a {type(value).__name__} and not a tensor: save only "
                "the model's state_dict"
            )
    return Contents("pytorch_model.bin", "pytorch", in_memory(loaded))
