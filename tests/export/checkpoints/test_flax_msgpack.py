"""Flax' msgpack files: valid ones are read, and malformed or hostile ones refused."""

import builtins
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import torch

from bertrt.errors import ExportError
from bertrt.export.checkpoints.formats.flax_msgpack import read_msgpack

KINDS = ["float32", "float16", "float64", "int32", "int64", "uint8", "bool"]


def packed(array: np.ndarray[Any, Any], **change: Any) -> Any:
    """Pack an array as Flax does; `change` replaces a part of it."""
    parts = {"shape": array.shape, "kind": array.dtype.name, "values": array.tobytes(), **change}
    return msgpack.ExtType(1, msgpack.packb(tuple(parts.values())))


def write(folder: Path, tree: Any) -> Path:
    path = folder / "flax_model.msgpack"
    path.write_bytes(msgpack.packb(tree))
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ExportError) as caught:
        read_msgpack(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_tree_of_arrays(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    arrays = {kind: random.integers(0, 2, (3, 2)).astype(kind) for kind in KINDS}
    tree = {"bert": {"layer": {"0": {kind: packed(array) for kind, array in arrays.items()}}}}
    scalar = msgpack.ExtType(3, packed(np.array(2.5)).data)
    contents = read_msgpack(write(tmp_path, {**tree, "scalar": scalar}))
    assert (contents.format, contents.scheme) == ("flax_model.msgpack", "flax")
    assert contents.arrays["scalar"].read().item() == 2.5
    for kind, array in arrays.items():
        stored = contents.arrays[f"bert/layer/0/{kind}"]
        assert stored.shape == (3, 2)
        assert torch.equal(stored.read(), torch.from_numpy(array))


def test_bfloat16(tmp_path: Path) -> None:
    values = torch.tensor([1.0, -2.5, 3e38], dtype=torch.bfloat16)
    leaf = packed(values.view(torch.int16).numpy(), kind="bfloat16")
    assert torch.equal(read_msgpack(write(tmp_path, {"x": leaf})).arrays["x"].read(), values)


def test_arrays_in_chunks(tmp_path: Path) -> None:
    """Flax writes arrays larger than a gigabyte so."""
    whole = np.arange(24, dtype=np.float32).reshape(4, 6)
    tree = {
        "__msgpack_chunked_array__": True,
        "shape": {"0": 4, "1": 6},
        "chunks": {str(n): packed(whole.reshape(-1)[2 * n : 2 * n + 2]) for n in range(12)},
    }
    stored = read_msgpack(write(tmp_path, {"a": {"x": tree}})).arrays["a/x"]
    assert torch.equal(stored.read(), torch.from_numpy(whole))
    del tree["chunks"]["3"]
    assert "flax_model.msgpack is damaged" in refusal(write(tmp_path, {"a": {"x": tree}}))


X = np.ones((2, 3), np.float32)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"x": packed(X, shape=(1 << 40, 1 << 20))}, "'x' has the shape"),
        ({"x": packed(X, shape=(-2, -3))}, "'x' has the shape"),
        ({"x": packed(X, shape=(2, 4))}, "'x' has the shape [2, 4] and 24 bytes"),
        ({"x": packed(X, kind="object")}, "'x' has the unknown type 'object'"),
        ({"x": packed(X, values=X.tobytes()[:-1])}, "and 23 bytes"),
        ({"x": msgpack.ExtType(2, msgpack.packb((1.0, 2.0)))}, "extension type 2"),
        ({"x": msgpack.ExtType(1, b"\xc1")}, "damaged"),
        ({"x": 5}, "damaged"),
        ({"x": [1, 2]}, "damaged"),
        ({"x": None}, "damaged"),
        (5, "damaged"),
        ({"a": {"x": packed(X)}, "a/x": packed(X)}, "it has 'a/x' twice"),
        ({1: packed(X)}, "damaged"),
    ],
)
def test_trees_that_are_refused(tmp_path: Path, tree: Any, message: str) -> None:
    error = refusal(write(tmp_path, tree))
    assert message in error
    assert "flax_model.msgpack" in error


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\xdd\xff\xff\xff\xff",  # a list of four billion
        b"\xdf\xff\xff\xff\xff",  # a dictionary of four billion
        b"\xc6\xff\xff\xff\xff",  # four gigabytes
        b"\xc9\xff\xff\xff\xff\x01",  # an array of four gigabytes
        b"\x81\xa1x" * 100_000,  # a tree that is too deep
        b"\xdd\x00\x00\x00\x0f" * 100_000,
        b"\x80\x80",
    ],
)
def test_bytes_that_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "flax_model.msgpack"
    path.write_bytes(data)
    assert "flax_model.msgpack is damaged" in refusal(path)


def test_the_error_without_msgpack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    true_import = builtins.__import__

    def refuse(name: str, *args: Any, **options: Any) -> Any:
        if name == "msgpack":
            raise ImportError(name)
        return true_import(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert "needs msgpack" in refusal(tmp_path / "flax_model.msgpack")
