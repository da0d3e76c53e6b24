"""Decode the tensors of a request and encode those of an answer, as JSON and as binary data.

Binary data is little-endian and row by row. An element of BYTES is its length, an unsigned 32-bit
number, and then its bytes; here it is always UTF-8 text. A request has tensors of INT64 and BYTES,
an answer of FP32 and BYTES.
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from bertrt.serving.errors import HttpError

__all__ = ["InputTensor", "OutputTensor", "refuse", "show_shape", "size_of"]

_DTYPES: dict[str, np.dtype[Any]] = {"INT64": np.dtype("<i8"), "FP32": np.dtype("<f4")}
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class InputTensor:
    """A tensor of a request, not decoded: its data is a list from JSON, or binary.

    The decoders compare sizes as Python's numbers, and allocate nothing for a shape whose elements
    did not come. They raise HttpError for data that does not fit the datatype and the shape.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: list[Any] | memoryview

    def texts(self) -> list[str]:
        """Decode BYTES into texts, row by row."""
        if isinstance(self.data, memoryview):
            return self._split(self.data)
        texts = self._flatten(self.data)
        if not all(isinstance(text, str) for text in texts):
            refuse(f"the data of input '{self.name}' has to be strings")
        return texts

    def numbers(self) -> np.ndarray:
        """Decode INT64 into an array of the tensor's shape."""
        dtype = _DTYPES[self.datatype]
        if isinstance(self.data, memoryview):
            expected = math.prod(self.shape) * dtype.itemsize
            if len(self.data) != expected:
                refuse(
                    f"unexpected total byte size {len(self.data)} for input '{self.name}', "
                    f"expecting {expected}"
                )
            return np.frombuffer(self.data, dtype).reshape(self.shape)
        numbers = self._flatten(self.data)
        # A bool is an int to isinstance.
        if not all(type(number) is int for number in numbers):
            refuse(f"the data of input '{self.name}' has to be whole numbers")
        try:
            return np.array(numbers, dtype).reshape(self.shape)
        except OverflowError:
            refuse(f"the data of input '{self.name}' has a number that is no {self.datatype}")

    def _flatten(self, data: list[Any]) -> list[Any]:
        """Return the elements of a list that is flat, or nested as the shape says."""
        items = data
        if items and isinstance(items[0], list):
            for size in self.shape[1:]:
                if not all(isinstance(item, list) and len(item) == size for item in items):
                    refuse(
                        f"the nested data of input '{self.name}' is not {show_shape(self.shape)}"
                    )
                items = [element for item in items for element in item]
        self._check_count(len(items))
        return items

    def _split(self, data: memoryview) -> list[str]:
        """Return the elements of binary BYTES."""
        texts, offset = [], 0
        while offset < len(data):
            start = offset + _LENGTH.size
            end = start + _LENGTH.unpack_from(data, offset)[0] if start <= len(data) else start
            if end > len(data):
                refuse(f"the data of input '{self.name}' ends within an element")
            try:
                texts.append(str(data[start:end], "utf-8"))
            except UnicodeDecodeError:
                refuse(f"element {len(texts)} of input '{self.name}' is not UTF-8")
            offset = end
        self._check_count(len(texts))
        return texts

    def _check_count(self, count: int) -> None:
        expected = math.prod(self.shape)
        if count != expected:
            refuse(
                f"input '{self.name}' has {count} elements, and its shape {show_shape(self.shape)} "
                f"holds {expected}"
            )


@dataclass(frozen=True)
class OutputTensor:
    """A tensor of an answer.

    Attributes:
        name, datatype: as the protocol writes them.
        values: an array of texts for BYTES, and of numbers otherwise.
    """

    name: str
    datatype: str
    values: np.ndarray

    @classmethod
    def of(cls, name: str, values: np.ndarray) -> "OutputTensor":
        """Return a tensor of texts, which are Python objects, or an FP32 tensor of numbers."""
        if values.dtype == object:
            return cls(name, "BYTES", values)
        return cls(name, "FP32", np.ascontiguousarray(values, _DTYPES["FP32"]))

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.values.shape

    def json(self) -> Any:
        """Return the elements in a flat list, or in a flat array that is written as one."""
        flat = self.values.reshape(-1)
        return flat.tolist() if self.datatype == "BYTES" else flat

    def binary(self) -> bytes:
        """Return the elements as binary data."""
        if self.datatype != "BYTES":
            return self.values.tobytes()
        elements = [text.encode() for text in self.values.reshape(-1)]
        return b"".join(_LENGTH.pack(len(element)) + element for element in elements)


def size_of(text: bytes) -> bytes:
    """Return what goes before an element of BYTES."""
    return _LENGTH.pack(len(text))


def refuse(message: str) -> NoReturn:
    """Raise the error for a request that cannot be used."""
    raise HttpError(400, message)


def show_shape(shape: Sequence[int]) -> str:
    """Return a shape as errors write it."""
    return f"[{','.join(map(str, shape))}]"
