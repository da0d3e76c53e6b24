"""What the readers of input files have in common: where rows lie, and what a row has."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bertrt.errors import InputError, shorten

__all__ = ["Block", "Columns", "MissingColumnError", "Range", "Reader", "Rows", "check_id"]

_INT64 = range(-(2**63), 2**63)


class MissingColumnError(InputError):
    """An input file has no column of a name that was asked for."""

    def __init__(self, path: Path, name: str, known: Sequence[str]) -> None:
        # Without a header, the first row's texts are the names.
        names = ", ".join(map(shorten, known)) or "no columns"
        super().__init__(f"{str(path)!r} has no column {name!r}: it has {names}")


@dataclass(frozen=True)
class Columns:
    """The columns to read: of texts, and of ids unless rows have none."""

    text: str
    id: str | None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return (self.text,) if self.id in (None, self.text) else (self.text, self.id)

    def check_once(self, path: str, names: Sequence[str]) -> None:
        """Raise InputError if a file with columns of these names has one of the columns twice."""
        for name in self.names:
            if names.count(name) > 1:
                raise InputError(f"{path!r} has several columns {name!r}: rename all but one")


@dataclass(frozen=True)
class Block:
    """Consecutive rows of a file, as a scan sees them.

    Attributes:
        ends: the position after each row: a byte, or the number of rows before it.
        ids: each row's id; empty if rows have none.
        lines: the number of the line after each row; empty where there are no lines.
    """

    ends: Sequence[int]
    ids: Sequence[int | str | None]
    lines: Sequence[int] = ()


@dataclass(frozen=True)
class Range:
    """Consecutive rows of a file.

    Attributes:
        file: the index of the file among the inputs.
        start, stop: positions as in `Block.ends`.
        rows: how many rows there are.
        line: the number of the line at `start`; 0 where there are no lines.
    """

    file: int
    start: int
    stop: int
    rows: int
    line: int = 0


@dataclass
class Rows:
    """Rows that were read: their ids, and their texts or why they have none."""

    ids: list[int | str | None] = field(default_factory=list)
    texts: list[str | InputError | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def letters(self) -> int:
        """How many letters the texts have."""
        return sum(len(text) for text in self.texts if isinstance(text, str))


class Reader(Protocol):
    """Reads files of a format in constant memory."""

    def scan(self, path: Path, columns: Columns) -> Iterator[Block]:
        """Yield where all rows of a file lie, with their ids.

        Raises MissingColumnError for a column that the file has not, and InputError for a file or
        an id that cannot be used.
        """

    def read(self, path: Path, columns: Columns, where: Range) -> Iterator[Rows]:
        """Yield the rows of a range, a thousand at a time at most."""


def check_id(value: Any, where: str) -> int | str | None:
    """Return an id. Raises InputError, which begins with `where`, for one that cannot be used."""
    if value is None or (type(value) is int and value in _INT64):
        return value
    if isinstance(value, str):
        # A lone surrogate cannot be written.
        if value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value):
            return value
        raise InputError(f"{where}: the id {shorten(value)} is not Unicode text: correct it")
    raise InputError(f"{where}: the id is {shorten(value)}: give a whole number or a string")
