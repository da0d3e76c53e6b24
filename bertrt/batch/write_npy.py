"""Write vectors into one array, embeddings.npy, in the order of the input, beside ids.parquet.

The array has its size from the start, and each shard is written to its place. What else a row has
is in a file for each shard, whose presence says that the shard is there; these are joined at the
end.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from bertrt.batch.arrow import import_arrow
from bertrt.batch.disk_errors import writing
from bertrt.batch.output_directory import staged
from bertrt.batch.plan import Plan, Shard
from bertrt.errors import InputError
from bertrt.staging import remove, sync

__all__ = ["NpyWriter", "write_npy_header"]

_ARRAY, _IDS = "embeddings.npy", "ids.parquet"
_VECTOR = "embedding"


class NpyWriter:
    """Writes an array [rows, D]; a row without an answer is NaN, or 0 where there is no NaN."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._array = directory / f".{_ARRAY}"

    def check(self, schema: Any) -> None:
        if _VECTOR not in schema.names:
            raise InputError(
                "an .npy file holds one vector for each row, which this task does not give: choose "
                "the format parquet or jsonl"
            )

    def begin(self, plan: Plan, schema: Any) -> None:
        kind = schema.field(_VECTOR).type
        if self._array.exists() or (self._directory / _ARRAY).exists():
            return
        # The vectors of shards that are there went with the array.
        for shard in plan.shards:
            remove(self._ids(shard))
        with staged(self._array) as stage, stage.open("wb") as file:
            dtype = np.dtype(kind.value_type.to_pandas_dtype())
            write_npy_header(file, (plan.rows, kind.list_size), dtype)
            file.truncate(file.tell() + plan.rows * kind.list_size * dtype.itemsize)

    def has(self, shard: Shard) -> bool:
        return self._ids(shard).exists()

    def write(self, shard: Shard, schema: Any, tables: Iterable[Any]) -> None:
        arrow = import_arrow()
        rest = _without_vectors(schema)
        with (
            staged(self._ids(shard)) as stage,
            arrow.parquet.ParquetWriter(stage, rest) as writer,
            writing(self._array),
            self._array.open("r+b") as file,
        ):
            shape, start = _read_header(file)
            position = start + shard.first_row * shape[1] * shape[2]
            file.seek(position)
            for table in tables:
                file.write(_matrix(table[_VECTOR], shape[1]).tobytes())
                writer.write_table(table.drop_columns([_VECTOR]))
            file.flush()
            sync(self._array)

    def finish(self, plan: Plan, schema: Any) -> list[str]:
        arrow = import_arrow()
        ids = self._directory / _IDS
        if not ids.exists():
            rest = _without_vectors(schema)
            with staged(ids) as stage, arrow.parquet.ParquetWriter(stage, rest) as writer:
                for shard in plan.shards:
                    writer.write_table(arrow.parquet.read_table(self._ids(shard), schema=rest))
        if self._array.exists():
            self._array.replace(self._directory / _ARRAY)
            sync(self._directory)
        return [_ARRAY, _IDS]

    def _ids(self, shard: Shard) -> Path:
        return self._directory / f".{shard.name}.parquet"


def write_npy_header(file: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Write the header of an .npy file for rows of a C-contiguous array.

    numpy keeps room in it for any number of rows, so that it may be written again.
    """
    descr = np.lib.format.dtype_to_descr(dtype)
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


def _read_header(file: Any) -> tuple[tuple[int, int, int], int]:
    """Return the rows, columns and bytes of a number, and where the first row begins."""
    np.lib.format.read_magic(file)
    (rows, columns), _, dtype = np.lib.format.read_array_header_1_0(file)
    return (rows, columns, dtype.itemsize), file.tell()


def _matrix(column: Any, size: int) -> np.ndarray:
    """Return a column of vectors as an array, with nulls filled."""
    vectors = column.combine_chunks()
    values: np.ndarray = vectors.values.to_numpy().reshape(-1, size)
    if vectors.null_count and np.issubdtype(values.dtype, np.floating):
        values = np.where(vectors.is_null().to_numpy(zero_copy_only=False)[:, None], np.nan, values)
    return np.ascontiguousarray(values)


def _without_vectors(schema: Any) -> Any:
    return schema.remove(schema.get_field_index(_VECTOR))
