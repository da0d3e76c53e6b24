"""Read Keras' HDF5 files, such as transformers' `tf_model.h5`.

All datasets are read, whatever their group: Keras puts each layer's weights into a group named
after the layer, and shards have no groups.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bertrt.errors import ExportError
from bertrt.export.checkpoints.error_reason import error_reason
from bertrt.export.checkpoints.formats.stored import Contents, Stored

__all__ = ["read_h5"]


def read_h5(path: Path) -> Contents:
    """Return the datasets of an HDF5 file by their paths in it.

    Only this file's own bytes are read: a dataset that is compressed, virtual or external is
    refused.

    Raises ExportError if the file is damaged or h5py is not installed. Damage inside a dataset
    raises when it is read.
    """
    try:
        import h5py
    except ImportError as error:
        raise ExportError(
            f"reading {path.name} needs h5py: install it, or 'bertrt[export]', which includes it"
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
        # h5py raises many classes of errors for a damaged file.
        reason = error_reason(error)
        raise ExportError(f"{path.name} is damaged ({reason}): download it again") from error
    return Contents("tf_model.h5", "keras", datasets)


def _stored(path: Path, name: str, dataset: Any) -> Stored:
    import h5py

    shape, dtype = dataset.shape, dataset.dtype
    plain = dataset.id.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS
    if shape is None or dtype.kind not in "fiub" or not plain or dataset.external:
        raise ExportError(f"{path.name} has {name!r} in a form that Keras does not write")
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
                # PyTorch needs this machine's byte order.
                return torch.from_numpy(values.astype(values.dtype.newbyteorder("="), copy=False))
        except Exception as error:
            raise ExportError(
                f"{path.name} is damaged at {name!r} ({error_reason(error)}): download it again"
            ) from error

    return read
