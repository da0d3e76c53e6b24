"""Write the shards of a job's output: one class for each format.

A shard is written from tables of a thousand rows, and appears complete or not at all.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from bertrt.batch.arrow import import_arrow
from bertrt.batch.output_directory import staged
from bertrt.batch.plan import Plan, Shard
from bertrt.batch.table_json import json_lines
from bertrt.batch.write_npy import NpyWriter

__all__ = ["FORMATS", "ShardWriter", "shard_writer"]

# Tables that a row group has: enough to be read fast, and few enough to hold.
_TABLES = 8


class ShardWriter(Protocol):
    """Writes and finds the shards of a job."""

    def check(self, schema: Any) -> None:
        """Raise InputError for answers that the format cannot hold."""

    def begin(self, plan: Plan, schema: Any) -> None:
        """Prepare the directory of a new job, or go on with an old one."""

    def has(self, shard: Shard) -> bool:
        """Whether a shard is there."""

    def write(self, shard: Shard, schema: Any, tables: Iterable[Any]) -> None:
        """Write a shard."""

    def finish(self, plan: Plan, schema: Any) -> list[str]:
        """Do what is left when all shards are there; return the names of the files."""


class _PartWriter:
    """Writes each shard to a file of its own."""

    ending = ""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def check(self, schema: Any) -> None:
        pass

    def begin(self, plan: Plan, schema: Any) -> None:
        pass

    def has(self, shard: Shard) -> bool:
        return self._path(shard).exists()

    def write(self, shard: Shard, schema: Any, tables: Iterable[Any]) -> None:
        with staged(self._path(shard)) as stage:
            self._write(stage, schema, tables)

    def finish(self, plan: Plan, schema: Any) -> list[str]:
        return [self._path(shard).name for shard in plan.shards]

    def _path(self, shard: Shard) -> Path:
        return self._directory / f"{shard.name}{self.ending}"

    def _write(self, path: Path, schema: Any, tables: Iterable[Any]) -> None:
        raise NotImplementedError


class ParquetWriter(_PartWriter):
    """Writes Parquet files, with the schema's metadata."""

    ending = ".parquet"

    def _write(self, path: Path, schema: Any, tables: Iterable[Any]) -> None:
        arrow = import_arrow()
        # Vectors hardly have a number twice, and ids are all different.
        options = {"use_dictionary": [name for name in ("label", "error") if name in schema.names]}
        with arrow.parquet.ParquetWriter(path, schema, **options) as writer:
            waiting: list[Any] = []
            for table in tables:
                waiting.append(table)
                if len(waiting) == _TABLES:
                    writer.write_table(arrow.concat_tables(waiting))
                    waiting = []
            if waiting:
                writer.write_table(arrow.concat_tables(waiting))


class JsonLinesWriter(_PartWriter):
    """Writes a JSON object on a line for each row."""

    ending = ".jsonl"

    def _write(self, path: Path, schema: Any, tables: Iterable[Any]) -> None:
        with path.open("w", encoding="utf-8") as file:
            for table in tables:
                file.writelines(json_lines(table))


_WRITERS: dict[str, type[Any]] = {
    "parquet": ParquetWriter,
    "jsonl": JsonLinesWriter,
    "npy": NpyWriter,
}
FORMATS = tuple(_WRITERS)


def shard_writer(format: str, directory: Path) -> ShardWriter:
    """Return the writer of a format into a directory."""
    writer: ShardWriter = _WRITERS[format](directory)
    return writer
