"""HDF5 files: valid ones are read, and others refused before memory is allocated."""

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from bertrt.errors import ExportError
from bertrt.export.checkpoints.formats.keras_h5 import read_h5


def read_all(path: Path) -> None:
    for stored in read_h5(path).arrays.values():
        stored.read()


def refusal(path: Path) -> str:
    with pytest.raises(ExportError) as caught:
        read_all(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f2", "<f8", "<i8", ">i2"])
def test_datasets_are_read_in_any_group(tmp_path: Path, kind: str) -> None:
    arrays = {
        "bert/scope/bert/dense/kernel:0": np.arange(15, dtype=kind).reshape(3, 5),
        "bias:0": np.arange(3, dtype=kind),
        "scalar:0": np.array(2, kind),
    }
    with h5py.File(tmp_path / "tf_model.h5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
        file.create_group("dropout")
        file.attrs["layer_names0"] = np.array([b"bert"])
    contents = read_h5(tmp_path / "tf_model.h5")
    assert (contents.format, contents.scheme) == ("tf_model.h5", "keras")
    assert contents.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        expected = torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))
        assert torch.equal(contents.arrays[name].read(), expected)


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    file.create_virtual_dataset("x", layout)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        # 16 TB of a fill value.
        (lambda file: file.create_dataset("x", (1 << 42,), "f4"), "needs 17592186044416 bytes"),
        (lambda file: file.create_dataset("x", (1 << 42,), "f4", chunks=(1 << 10,)), "form"),
        (lambda file: file.create_dataset("x", data=np.zeros(9999), compression="gzip"), "form"),
        (lambda file: file.create_dataset("x", data="text"), "form"),
        (lambda file: file.create_dataset("x", data=h5py.Empty("f4")), "form"),
        (lambda file: file.create_dataset("x", data=np.zeros(2, "c8")), "form"),
        (virtual, "form"),
        (
            lambda file: file.create_dataset("x", (3,), "f4", external=[("/etc/passwd", 0, 12)]),
            "form",
        ),
    ],
)
def test_datasets_that_are_refused(
    tmp_path: Path, write: Callable[[Any], object], message: str
) -> None:
    with h5py.File(tmp_path / "tf_model.h5", "w") as file:
        write(file)
    error = refusal(tmp_path / "tf_model.h5")
    assert message in error
    assert "'x'" in error


def test_external_links_are_not_followed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.zeros(3)
    with h5py.File(tmp_path / "tf_model.h5", "w") as file:
        file["link"] = h5py.ExternalLink("other.h5", "/x")
        file["y"] = np.zeros(3)
        file["round/round"] = h5py.SoftLink("/round")
    assert list(read_h5(tmp_path / "tf_model.h5").arrays) == ["y"]


@pytest.mark.parametrize("length", [0, 7, 512, -1, -100])
def test_a_truncated_file(tmp_path: Path, length: int) -> None:
    path = tmp_path / "tf_model.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.ones(999)
    data = path.read_bytes()
    path.write_bytes(data[:length])
    assert "tf_model.h5 is damaged" in refusal(path)


def test_the_error_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true_import = builtins.__import__

    def refuse(name: str, *args: Any, **options: Any) -> Any:
        if name == "h5py":
            raise ImportError(name)
        return true_import(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert "needs h5py" in refusal(tmp_path / "tf_model.h5")
