"""Arrays out of Keras' HDF5 files, such as transformers' `tf_model.h5`.

All datasets are taken, whatever group they lie in: Keras puts each layer's weights into a group of
the layer's name, and shards have none.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bertrt.errors import ExportError
from bertrt.export.checkpoints.formats.stored import Contents, Stored

__all__ = ["read_h5"]


def read_h5(path: Path) -> Contents:
    """The datasets of an HDF5 file by their paths in it.

    Only bytes of this file are read, as many as it has: a dataset that is compressed, made up from
    others or kept elsewhere is refused.

    Raises ExportError when the file is damaged or h5py is not installed; a dataset's own damage is
    told when it is read.
    """
    try:
        import h5py
    except ImportError as error:
        raise ExportError(
            f"reading {path.name} needs h5py: install it, or 'bertrt[export]', which brings it"
        ) from error
    datasets: dict[str, Stored] = {}

    def collect(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            datasets[name] = _stored(path, name, item)

    try:
        with h5py.File(path, "r") as file:
            file.visititems(collect)
    except ExportError:
        raise
    except Exception as error:
        # A damaged file makes the library fail in a dozen ways.
        raise ExportError(f"{path.name} is damaged ({_reason(error)}): fetch it again") from error
    return Contents("tf_model.h5", "keras", datasets)


def _stored(path: Path, name: str, dataset: Any) -> Stored:
    import h5py

    shape, dtype = dataset.shape, dataset.dtype
    plain = dataset.id.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS
    if shape is None or dtype.kind not in "fiub" or not plain or dataset.external:
        raise ExportError(f"{path.name} holds {name!r} in a form that Keras does not write")
    size = math.prod(shape) * dtype.itemsize
    if dataset.id.get_storage_size() != size or size > path.stat().st_size:
        raise ExportError(
            f"{path.name} is damaged: {name!r} with its shape {list(shape)} needs {size} bytes, "
            "which the file does not have"
        )
    return Stored(tuple(shape), _reader(path, name))


def _reader(path: Path, name: str) -> Callable[[], torch.Tensor]:
    def read() -> torch.Tensor:
        import h5py

        try:
            with h5py.File(path, "r") as file:
                values = np.asarray(file[name][()])
                # In this machine's byte order, which PyTorch asks for.
                return torch.from_numpy(values.astype(values.dtype.newbyteorder("="), copy=False))
        except Exception as error:
            raise ExportError(
                f"{path.name} is damaged at {name!r} ({_reason(error)}): fetch it again"
            ) from error

    return read


def _reason(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
