"""Print vectors, and write them to .npy, .jsonl and .parquet files, holding few at a time.

A writer is given groups of texts and their vectors, [n, H] of one dtype. There is at least one
group, which may be empty. Sparse vectors are printed, and written as .jsonl.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np

from bertrt import SparseVector
from bertrt.batch.write_npy import write_npy_header
from bertrt.errors import InputError

__all__ = ["WRITERS", "VectorWriter", "print_vectors"]

# Rows that a Parquet file has together: enough to be read fast, and few enough to hold.
_ROW_GROUP = 8192


def print_vectors(
    texts: Sequence[str],
    vectors: np.ndarray | Sequence[np.ndarray | SparseVector],
    *,
    with_text: bool,
    file: TextIO | None = None,
) -> None:
    """Print each vector as a JSON list on a line, or as `{"text": …, "vector": […]}`.

    A sparse vector is `{"ids": […], "weights": […]}`, with the text before the ids, and several
    vectors of a text are a list of lists, as `"vectors"`. Each float32 has the fewest digits that
    give it back. The default file is standard output.
    """
    for text, vector in zip(texts, vectors, strict=True):
        start = f'"text": {json.dumps(text, ensure_ascii=False)}, ' if with_text else ""
        if isinstance(vector, SparseVector):
            line = f'{{{start}"ids": {_list(vector.ids)}, "weights": {_list(vector.weights)}}}'
        else:
            name = "vector" if vector.ndim == 1 else "vectors"
            line = f'{{{start}"{name}": {_list(vector)}}}' if with_text else _list(vector)
        print(line, file=file)
    print(end="", flush=True, file=file)


def _list(numbers: np.ndarray) -> str:
    """Return the JSON of a vector, or of a list of them."""
    return f"[{', '.join(map(str if numbers.ndim == 1 else _list, numbers))}]"


class VectorWriter(Protocol):
    """Writes a file."""

    def write(self, texts: Sequence[str], vectors: Any) -> None:
        """Add texts and their vectors."""

    def close(self) -> None:
        """Complete the file."""


class _NpyWriter:
    """Writes an array [n, H], in the order of the texts, which it leaves out.

    Its header is written again at the end, when n is known.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._dtype: Any = None
        self._rows = self._size = 0

    def write(self, texts: Sequence[str], vectors: np.ndarray) -> None:
        if self._dtype is None:
            self._dtype = vectors.dtype
            self._size = vectors.shape[1]
            self._write_header()
        self._file.write(vectors.tobytes())
        self._rows += len(vectors)

    def close(self) -> None:
        with self._file:
            if self._dtype is not None:
                self._file.seek(0)
                self._write_header()

    def _write_header(self) -> None:
        write_npy_header(self._file, (self._rows, self._size), self._dtype)


class _JsonLinesWriter:
    """Writes a line `{"text": …, "vector": […]}` for each text."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")

    def write(self, texts: Sequence[str], vectors: np.ndarray) -> None:
        print_vectors(texts, vectors, with_text=True, file=self._file)

    def close(self) -> None:
        self._file.close()


class _ParquetWriter:
    """Writes the columns "text", a string, and "vector", a list of numbers."""

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise InputError(
                f"a .parquet file needs pyarrow, which cannot be imported ({error}): install it "
                "with pip install 'bertrt[batch]', or write .npy or .jsonl"
            ) from error
        self._arrow = pyarrow
        self._path = path
        self._writer: Any = None
        self._texts: list[str] = []
        self._vectors: list[np.ndarray] = []

    def write(self, texts: Sequence[str], vectors: np.ndarray) -> None:
        self._texts += texts
        self._vectors.append(vectors)
        if len(self._texts) >= _ROW_GROUP:
            self._write_rows()

    def close(self) -> None:
        try:
            if self._vectors:
                self._write_rows()
        finally:
            if self._writer is not None:
                self._writer.close()

    def _write_rows(self) -> None:
        vectors = np.concatenate(self._vectors)
        arrow = self._arrow
        offsets = np.arange(len(vectors) + 1, dtype=np.int32) * np.int32(vectors.shape[1])
        lists = arrow.ListArray.from_arrays(offsets, arrow.array(vectors.reshape(-1)))
        table = arrow.table({"text": arrow.array(self._texts, arrow.string()), "vector": lists})
        if self._writer is None:
            # Vectors hardly have a number twice.
            self._writer = arrow.parquet.ParquetWriter(
                self._path, table.schema, use_dictionary=["text"]
            )
        self._writer.write_table(table)
        self._texts, self._vectors = [], []


# The writers by the ending of the file's name.
WRITERS: dict[str, Callable[[Path], VectorWriter]] = {
    ".npy": _NpyWriter,
    ".jsonl": _JsonLinesWriter,
    ".parquet": _ParquetWriter,
}
