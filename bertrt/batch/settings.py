"""What a job is asked to do."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bertrt.batch.rows import Columns
from bertrt.batch.table_answerer import TableAnswerer
from bertrt.errors import InputError

__all__ = ["ROW", "Settings"]

# The column of the rows' numbers, from 0.
ROW = "row"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a job is asked to do.

    Attributes:
        directory: the artifact.
        inputs: the paths or patterns of the input files.
        output: the directory to write.
        column: the column of texts.
        id_column: the column of ids; None if the rows' numbers are their keys.
        task, options, on_error: as for `TableAnswerer`.
        format: "parquet", "jsonl" or "npy".
        allow_duplicate_ids: whether an id may occur twice; the rows' numbers are their keys then.
        shard_rows: how many rows a shard has at most.
        session: the options of a session: threads and others, as for `TableAnswerer`.
    """

    directory: Path
    inputs: Sequence[str]
    output: Path
    column: str = "text"
    id_column: str | None = None
    task: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    on_error: str = "column"
    format: str = "parquet"
    allow_duplicate_ids: bool = False
    shard_rows: int = 16384
    session: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.with_row and self.id_column == ROW:
            raise InputError(
                f"the id column is {ROW!r}, which the rows' numbers have too: rename it, or leave "
                "duplicate ids out"
            )

    @property
    def columns(self) -> Columns:
        """The columns to read."""
        return Columns(self.column, self.id_column)

    @property
    def with_row(self) -> bool:
        """Whether the rows' numbers are a column beside the ids."""
        return self.allow_duplicate_ids and self.id_column is not None

    def answerer(self) -> TableAnswerer:
        """Open the artifact."""
        return TableAnswerer(
            self.directory,
            task=self.task,
            column=self.column,
            id_column=self.id_column or ROW,
            options=self.options,
            on_error=self.on_error,
            **self.session,
        )

    def identity(self, answerer: TableAnswerer) -> dict[str, Any]:
        """Return what has to stay the same when a job goes on, by what an error calls it.

        `answerer` is what answers, by these settings. JSON's types.
        """
        return {
            "artifact": answerer.artifact_sha256,
            "task": answerer.task,
            "options": {name: _plain(value) for name, value in sorted(self.options.items())},
            "column": self.column,
            "id column": self.id_column,
            "treatment of duplicate ids": self.allow_duplicate_ids,
            "treatment of errors": self.on_error,
            "format": self.format,
            "number of rows in a shard": self.shard_rows,
        }


def _plain(value: Any) -> Any:
    """Return an option's value as JSON's types; an array as its hash."""
    if isinstance(value, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return f"{value.dtype}{list(value.shape)} {digest}"
    return json.loads(json.dumps(value))
