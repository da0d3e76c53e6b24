"""Read Flax' msgpack files, such as transformers' `flax_model.msgpack`.

The file is a tree of dictionaries. Its leaves are arrays, in an extension type whose data is
msgpack too: shape, type and bytes. Arrays above a gigabyte are dictionaries of flat chunks.
Source: flax/serialization.py.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from bertrt.errors import ExportError
from bertrt.export.checkpoints.error_reason import error_reason
from bertrt.export.checkpoints.formats.stored import Contents, Stored, in_memory

__all__ = ["read_msgpack"]

_ARRAY, _SCALAR = 1, 3  # extension types of Flax; 2 is a complex number
_CHUNKED = "__msgpack_chunked_array__"

_DTYPES = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
    "float64": torch.float64,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "uint8": torch.uint8,
    "bool": torch.bool,
}

# msgpack allocates as many elements as a list claims to have. Flax' own lists have three elements,
# and its dictionaries one for each layer.
_LONGEST_LIST = 16
_LONGEST_DICTIONARY = 10_000


def read_msgpack(path: Path) -> Contents:
    """Read the arrays of a msgpack file, by their keys joined by slashes.

    Raises ExportError if the file is damaged, has other contents, or msgpack is not installed.
    """
    try:
        import msgpack
    except ImportError as error:
        raise ExportError(
            f"reading {path.name} needs msgpack: install it, or 'bertrt[export]', which includes it"
        ) from error
    try:
        tree = _unpack(path.read_bytes(), ext_hook=msgpack.ExtType)
        arrays: dict[str, Stored] = {}
        for name, leaf in _leaves(tree, ""):
            if name in arrays:
                raise ValueError(f"it has {name!r} twice")
            arrays |= in_memory({name: _array(leaf, name)})
    except Exception as error:
        # msgpack raises many classes of errors, and dictionaries may lack any key.
        reason = error_reason(error)
        raise ExportError(f"{path.name} is damaged ({reason}): download it again") from error
    return Contents("flax_model.msgpack", "flax", arrays)


def _unpack(data: bytes, **options: Any) -> Any:
    import msgpack

    return msgpack.unpackb(
        data,
        raw=False,
        strict_map_key=True,
        max_array_len=_LONGEST_LIST,
        max_map_len=_LONGEST_DICTIONARY,
        **options,
    )


def _leaves(tree: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the tree's arrays, whole or in chunks, by name; msgpack limits the tree's depth."""
    if not isinstance(tree, dict) or _CHUNKED in tree:
        yield name, tree
        return
    for key, value in tree.items():
        yield from _leaves(value, f"{name}/{key}" if name else str(key))


def _array(leaf: Any, name: str) -> torch.Tensor:
    if isinstance(leaf, dict):
        shape = [leaf["shape"][str(axis)] for axis in range(len(leaf["shape"]))]
        chunks = [leaf["chunks"][str(number)] for number in range(len(leaf["chunks"]))]
        return torch.cat([_array(chunk, name).flatten() for chunk in chunks]).reshape(shape)
    code, data = leaf
    if code not in (_ARRAY, _SCALAR):
        raise ValueError(f"{name!r} has the extension type {code}, which is not an array")
    shape, kind, values = _unpack(data)
    # Old versions of msgpack return the type's name as bytes.
    kind = kind.decode() if isinstance(kind, bytes) else kind
    if kind not in _DTYPES:
        raise ValueError(f"{name!r} has the unknown type {kind!r}")
    dtype = _DTYPES[kind]
    if any(size < 0 for size in shape) or math.prod(shape) * dtype.itemsize != len(values):
        raise ValueError(f"{name!r} has the shape {shape} and {len(values)} bytes")
    if not values:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(bytearray(values), dtype=dtype).reshape(shape)
