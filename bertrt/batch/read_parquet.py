"""Read rows of Parquet files, of which a position is a number of rows."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bertrt.batch.arrow import import_arrow
from bertrt.batch.rows import Block, Columns, MissingColumnError, Range, Rows, check_id
from bertrt.batch.texts import check_text_type, read_texts
from bertrt.errors import InputError

__all__ = ["ParquetReader"]

# Rows that are decoded at a time, and about their most bytes: a text may have megabytes. Fewer
# rows would make it slow to pass over those before a part in a large row group.
_ROWS = 256
_BYTES = 16 << 20
_IDS = 8192
# Pages are read as they are needed: a row group may be larger than the memory.
_BUFFER = 1 << 20


class ParquetReader:
    """Reads Parquet files."""

    def scan(self, path: Path, columns: Columns) -> Iterator[Block]:
        with _open(path) as file:
            _check_columns(path, file.schema_arrow, columns)
            done = 0
            if columns.id is None:
                rows = file.metadata.num_rows
                for done in range(0, rows, _IDS):
                    yield Block(range(done + 1, min(done + _IDS, rows) + 1), ())
                return
            for batch in _batches(path, file, _IDS, [columns.id], range(file.num_row_groups)):
                ids = _read_ids(path, batch[columns.id])
                yield Block(range(done + 1, done + len(ids) + 1), ids)
                done += len(ids)

    def read(self, path: Path, columns: Columns, where: Range) -> Iterator[Rows]:
        with _open(path) as file:
            groups, skip = _find_groups(file.metadata, where)
            left = where.rows
            for batch in _batches(path, file, _ROWS, columns.names, groups):
                part = batch.slice(skip, left)
                skip -= min(skip, batch.num_rows)
                left -= part.num_rows
                if part.num_rows:
                    texts = read_texts(part[columns.text], columns.text)
                    ids = [] if columns.id is None else part[columns.id].to_pylist()
                    yield Rows(ids, texts)
                if not left:
                    return


def _open(path: Path) -> Any:
    arrow = import_arrow()
    try:
        return arrow.parquet.ParquetFile(path, buffer_size=_BUFFER)
    except arrow.ArrowInvalid as error:
        raise _damaged(path, error) from error


def _batches(
    path: Path, file: Any, most: int, columns: Sequence[str], groups: Sequence[int]
) -> Iterator[Any]:
    """Yield record batches of row groups, of so many rows at most, and of fewer if they are long.

    Raises InputError if the file is damaged.
    """
    arrow = import_arrow()
    try:
        # One by one: Arrow keeps what it has decoded of a group until it has read all of them.
        for group in groups:
            rows = min(most, _rows_of(file.metadata.row_group(group), columns))
            yield from file.iter_batches(
                rows, use_threads=False, columns=list(columns), row_groups=[group]
            )
    except (arrow.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _rows_of(group: Any, columns: Sequence[str]) -> int:
    """Return how many rows of a group have `_BYTES` in these columns, by the group's average."""
    found = (group.column(number) for number in range(group.num_columns))
    size = sum(one.total_uncompressed_size for one in found if one.path_in_schema in columns)
    rows: int = _BYTES * group.num_rows // max(1, size)
    return max(1, rows)


def _read_ids(path: Path, column: Any) -> list[int | str | None]:
    """Return the ids of a column. Raises InputError for one that cannot be used."""
    try:
        return [check_id(id, repr(str(path))) for id in column.to_pylist()]
    except UnicodeDecodeError as error:
        raise InputError(
            f"{str(path)!r}: an id is not UTF-8 ({error.reason} at byte {error.start}): correct it"
        ) from error


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"{str(path)!r} is not a Parquet file, or damaged ({error}): write it again")


def _check_columns(path: Path, schema: Any, columns: Columns) -> None:
    """Raise InputError unless a file has the columns, of types that can be used."""
    types = import_arrow().types
    for name in columns.names:
        if name not in schema.names:
            raise MissingColumnError(path, name, schema.names)
    columns.check_once(str(path), schema.names)
    try:
        check_text_type(schema.field(columns.text).type, columns.text)
    except InputError as error:
        raise InputError(f"{str(path)!r}: {error}") from error
    if columns.id is not None:
        kind = schema.field(columns.id).type
        kind = kind.value_type if types.is_dictionary(kind) else kind
        known = (types.is_integer, types.is_string, types.is_large_string, types.is_string_view)
        if not any(is_kind(kind) for is_kind in (*known, types.is_null)):
            raise InputError(
                f"{str(path)!r}: the id column {columns.id!r} has {kind}: give whole numbers or "
                "strings"
            )


def _find_groups(metadata: Any, where: Range) -> tuple[list[int], int]:
    """Return the row groups of a range, and how many of their first rows are before it."""
    groups: list[int] = []
    skip = first = 0
    for group in range(metadata.num_row_groups):
        end = first + metadata.row_group(group).num_rows
        if end > where.start and first < where.stop:
            if not groups:
                skip = where.start - first
            groups.append(group)
        first = end
    return groups, skip
