"""TensorFlow's checkpoints: valid ones, and malformed ones with valid checksums."""

import struct
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from bertrt.errors import ExportError
from bertrt.export.checkpoints.checkpoint import open_checkpoint
from bertrt.export.checkpoints.formats.tf_bundle import read_bundle
from bertrt.export.checkpoints.formats.tf_slices import arrange_slices, slice_key

FILES = ("bert_model.ckpt.index", "bert_model.ckpt.data-00000-of-00001")
KINDS = ["float32", "float64", "float16", "int32", "int64", "bool"]


@pytest.fixture
def arrays() -> dict[str, np.ndarray[Any, Any]]:
    random = np.random.default_rng(4)
    many = {f"layer_{number}/kernel": random.normal(size=(3, 5)) for number in range(40)}
    kinds = {f"kind/{kind}": random.integers(0, 2, (2, 3)).astype(kind) for kind in KINDS}
    return {**many, **kinds, "scalar": np.array(7, np.int64), "empty": np.zeros((0, 4), "float32")}


def read(folder: Path, name: str | None = None) -> None:
    contents = read_bundle(folder, FILES)
    if name is not None:
        contents.arrays[name].read()


def refusal(folder: Path, name: str | None = None) -> str:
    with pytest.raises(ExportError) as caught:
        read(folder, name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_all_arrays_are_read(tmp_path: Path, bundles: ModuleType, arrays: Any) -> None:
    bundles.bundle_of(arrays).write(tmp_path)
    contents = read_bundle(tmp_path, FILES)
    assert contents.scheme == "tensorflow 1"
    assert contents.arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        stored = contents.arrays[name]
        assert stored.shape == array.shape
        assert torch.equal(stored.read(), torch.from_numpy(array)), name


def test_data_in_several_files(tmp_path: Path, bundles: ModuleType) -> None:
    """Training on several machines writes such checkpoints."""
    x, y = np.arange(6, dtype=np.float32), np.arange(5, dtype=np.float32)
    bundle = bundles.bundle_of({"x": x})
    bundle.entries["y"] = bundles.Entry((5,), 0, 20, bundles.masked(y.tobytes()), shard=1)
    bundle.header = bundles.number(1, 2)
    bundle.write(tmp_path)
    names = ("x.data-00000-of-00002", "x.data-00001-of-00002")
    (tmp_path / FILES[1]).rename(tmp_path / names[0])
    (tmp_path / names[1]).write_bytes(y.tobytes())
    arrays = read_bundle(tmp_path, (FILES[0], *names)).arrays
    assert torch.equal(arrays["x"].read(), torch.from_numpy(x))
    assert torch.equal(arrays["y"].read(), torch.from_numpy(y))


def test_a_shape_of_a_million_axes(tmp_path: Path, bundles: ModuleType) -> None:
    bundle = bundles.bundle_of({"x": np.ones(2, np.float32)})
    bundle.entries["x"].shape = (1 << 60,) * 10_000
    bundle.write(tmp_path)
    assert "is impossible" in refusal(tmp_path)


def test_object_graphs_have_their_own_scheme(tmp_path: Path, bundles: ModuleType) -> None:
    bundles.bundle_of({"a/.ATTRIBUTES/VARIABLE_VALUE": np.zeros(2)}).write(tmp_path)
    assert read_bundle(tmp_path, FILES).scheme == "model garden"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 1 << 50}, "does not fit its size"),
        ({"shape": (1 << 40, 1 << 20), "size": 1 << 62}, "truncated before 'x'"),
        ({"shape": (1 << 40, 1 << 20), "size": 1 << 63}, "does not fit its size"),
        ({"shape": (1 << 38,), "size": 1 << 40}, "truncated before 'x'"),
        ({"shape": (3, 4)}, "does not fit its size"),
        ({"offset": 1 << 60}, "truncated before 'x'"),
        ({"offset": 8}, "truncated before 'x'"),
        ({"shard": 1}, "in file 1"),
        ({"checksum": 1}, "damaged at 'x', whose checksum is wrong"),
        ({"dtype": 7}, "'x' has TensorFlow's type 7"),
        ({"dtype": 2}, "does not fit its size"),
    ],
)
def test_a_wrong_entry(
    tmp_path: Path, bundles: ModuleType, change: dict[str, Any], message: str
) -> None:
    bundle = bundles.bundle_of({"x": np.ones((3, 5), np.float32)})
    for name, value in change.items():
        setattr(bundle.entries["x"], name, value)
    bundle.write(tmp_path)
    assert message in refusal(tmp_path, "x")


def test_a_negative_size_is_refused(tmp_path: Path, bundles: ModuleType) -> None:
    bundle = bundles.bundle_of({"x": np.ones((3, 5), np.float32)})
    bundle.entries["x"].shape = (-3, -5)
    bundle.write(tmp_path)
    assert "the shape [-3, -5] is impossible" in refusal(tmp_path)


@pytest.mark.parametrize("at", [0, 1, 29, 59])
def test_the_error_names_damaged_data(tmp_path: Path, bundles: ModuleType, at: int) -> None:
    bundle = bundles.bundle_of({"x": np.ones((3, 5), np.float32), "y": np.ones(2, np.float32)})
    bundle.data = bundle.data[:at] + bytes([bundle.data[at] ^ 1]) + bundle.data[at + 1 :]
    bundle.write(tmp_path)
    assert "damaged at 'x'" in refusal(tmp_path, "x")
    read_bundle(tmp_path, FILES).arrays["y"].read()


def test_a_damaged_index(tmp_path: Path, bundles: ModuleType, arrays: Any) -> None:
    bundles.bundle_of(arrays).write(tmp_path)
    valid = (tmp_path / FILES[0]).read_bytes()
    # The last hundred bytes have padding, and an empty block that is not read.
    for at in range(0, len(valid) - 100, 41):
        (tmp_path / FILES[0]).write_bytes(valid[:at] + bytes([valid[at] ^ 16]) + valid[at + 1 :])
        assert f"{FILES[0]} is damaged" in refusal(tmp_path)
    for length in (0, 1, 47, 48, 100, len(valid) - 1):
        (tmp_path / FILES[0]).write_bytes(valid[:length])
        assert FILES[0] in refusal(tmp_path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"", "counts 0 data files, and there are 1"),
        (b"\x08\x02", "counts 2 data files"),
        (b"\x08\x01\x10\x01", "big-endian"),
        (b"\x08", "truncated"),
        (b"\x0f", "unknown kind"),
        (b"\xff" * 20, "ten bytes"),
    ],
)
def test_a_header_that_is_refused(
    tmp_path: Path, bundles: ModuleType, header: bytes, message: str
) -> None:
    bundle = bundles.bundle_of({"x": np.ones(2, np.float32)})
    bundle.header = header
    bundle.write(tmp_path)
    assert message in refusal(tmp_path)


def write_table(folder: Path, data: bytes) -> None:
    (folder / FILES[0]).write_bytes(data)
    (folder / FILES[1]).write_bytes(b"")


def test_a_block_that_is_listed_many_times(tmp_path: Path, bundles: ModuleType) -> None:
    """Otherwise reading a file of a megabyte could take days."""
    records = {b"": bundles.number(1, 1), **{b"%05d" % n: b"" for n in range(500)}}
    content = bundles.block(records)
    out = content
    handle = bundles.varint(0) + bundles.varint(len(content) - 5)
    index = bundles.block({b"%05d" % number: handle for number in range(20_000)})
    empty = bundles.block({})
    places = [(len(out), len(empty) - 5), (len(out) + len(empty), len(index) - 5)]
    out += empty + index
    footer = b"".join(bundles.varint(number) for place in places for number in place)
    write_table(tmp_path, out + footer.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57))
    assert "not in order" in refusal(tmp_path)


def test_names_that_grow(tmp_path: Path, bundles: ModuleType) -> None:
    """Each name takes five bytes in the file, and is longer than the last in memory."""
    out, length = bundles.varint(0) + bundles.varint(1) + bundles.varint(0) + b"a", 1
    for _ in range(3000):
        out += bundles.varint(length) + bundles.varint(1) + bundles.varint(0) + b"a"
        length += 1
    content = bundles.signed_block(out + struct.pack("<II", 0, 1))
    write_table(tmp_path, bundles.join([(b"b", content)]))
    assert "longer than 1024 bytes" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no entries"),
        (b"\0\0", "no entries"),
        (struct.pack("<I", 1 << 31), "no entries"),
        (b"\5\1\0a" + struct.pack("<II", 0, 1), "an entry is truncated"),
        (b"\0\1\x7fa" + struct.pack("<II", 0, 1), "an entry is truncated"),
        (b"\0\1" + struct.pack("<II", 0, 1), "truncated"),
        (b"\0\1\0\xff" + struct.pack("<II", 0, 1), "codec can't decode"),
    ],
)
def test_blocks_that_are_refused(
    tmp_path: Path, bundles: ModuleType, content: bytes, message: str
) -> None:
    header = bundles.block({b"": bundles.number(1, 1)})
    blocks = [(b"", header), (b"x", bundles.signed_block(content))]
    write_table(tmp_path, bundles.join(blocks))
    assert message in refusal(tmp_path)


def test_compressed_blocks_are_refused(tmp_path: Path, bundles: ModuleType) -> None:
    write_table(tmp_path, bundles.join([(b"x", bundles.block({b"": b""}, kind=1))]))
    assert "compressed" in refusal(tmp_path)


# From the rules in tensorflow/core/lib/strings/ordered_code.h.
@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "80"),
        (-1, "7f"),
        (63, "bf"),
        (-64, "40"),
        (64, "c040"),
        (-65, "3fbf"),
        (8191, "dfff"),
        (8192, "e02000"),
        (1 << 20, "f0100000"),
    ],
)
def test_keys_of_slices(value: int, encoded: str) -> None:
    key = slice_key("a", ((0, value),))
    # A zero, the name with its terminator, one axis, the start zero, the length.
    assert key.hex() == "00" + "610001" + "0101" + "80" + encoded


def sliced(bundles: ModuleType, whole: np.ndarray[Any, Any], *cuts: tuple[int, int]) -> Any:
    """Make a variable that is partitioned by rows, as in training on several machines."""
    bundle = bundles.Bundle()
    extra = b""
    for start, length in cuts:
        key = slice_key("w", ((start, length), (0, -1)))
        bundle.add(key.decode("latin-1"), whole[start : start + length])
        extent = bundles.number(1, start) + bundles.number(2, length)
        extra += bundles.message(7, bundles.message(1, extent) + bundles.message(1, b""))
    bundle.entries["w"] = bundles.Entry(whole.shape, 0, 0, 0, extra=extra)
    return bundle


def write_sliced(folder: Path, bundles: ModuleType, bundle: Any) -> None:
    records = {b"": bundle.header}
    records |= {name.encode("latin-1"): entry.encode() for name, entry in bundle.entries.items()}
    (folder / FILES[0]).write_bytes(bundles.table(dict(sorted(records.items()))))
    (folder / FILES[1]).write_bytes(bundle.data)


WHOLE = np.arange(700, dtype=np.float32).reshape(100, 7)


def test_slices_are_concatenated(tmp_path: Path, bundles: ModuleType) -> None:
    write_sliced(tmp_path, bundles, sliced(bundles, WHOLE, (70, 30), (0, 70)))
    contents = read_bundle(tmp_path, FILES)
    assert list(contents.arrays) == ["w"]
    assert torch.equal(contents.arrays["w"].read(), torch.from_numpy(WHOLE))


@pytest.mark.parametrize(
    ("cuts", "message"),
    [
        ([(0, 70), (71, 29)], "gap or overlap at 71"),
        ([(0, 70), (60, 40)], "gap or overlap at 60"),
        ([(0, 70)], "end at 70 of 100"),
        ([(0, 70)] * 50, "gap or overlap at 0"),
    ],
)
def test_slices_that_do_not_fit(
    tmp_path: Path, bundles: ModuleType, cuts: list[tuple[int, int]], message: str
) -> None:
    write_sliced(tmp_path, bundles, sliced(bundles, WHOLE, *cuts))
    assert message in refusal(tmp_path, "w")


def test_a_missing_slice(tmp_path: Path, bundles: ModuleType) -> None:
    bundle = sliced(bundles, WHOLE, (0, 70), (70, 30))
    del bundle.entries[next(name for name in bundle.entries if name != "w")]
    write_sliced(tmp_path, bundles, bundle)
    assert "lacks a slice of 'w'" in refusal(tmp_path, "w")


def test_slices_along_two_axes_are_refused() -> None:
    halves = [(((a, 2), (b, 2)), (2, 2)) for a in (0, 2) for b in (0, 2)]
    with pytest.raises(ValueError, match="more than one axis"):
        arrange_slices((4, 4), halves)
    for shape, extents in [((), ()), ((4,), ((0, 4), (0, 4)))]:
        with pytest.raises(ValueError, match="other axes"):
            arrange_slices(shape, [(extents, shape)])


def test_missing_files_are_named(case: Callable[[str], Path]) -> None:
    folder = case("tf1-pretraining")
    data = folder / "bert_model.ckpt.data-00000-of-00001"
    contents = data.read_bytes()
    data.unlink()
    with pytest.raises(ExportError, match=r"bert_model.ckpt.data-00000-of-00001 is missing"):
        open_checkpoint(str(folder))
    (folder / "bert_model.ckpt.data-00000-of-00002").write_bytes(contents)
    with pytest.raises(ExportError, match=r"bert_model.ckpt.data-00001-of-00002 is missing"):
        open_checkpoint(str(folder))
    data.write_bytes(contents)
    with pytest.raises(ExportError, match="are from two checkpoints"):
        open_checkpoint(str(folder))
    (folder / "bert_model.ckpt.index").unlink()
    with pytest.raises(ExportError, match=r"bert_model.ckpt.index is missing"):
        open_checkpoint(str(folder))
