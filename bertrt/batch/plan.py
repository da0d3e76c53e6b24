"""The plan of a job: which rows of which files each shard of the output has."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from bertrt.batch.disk_errors import reading
from bertrt.batch.duplicates import DuplicateFinder, hash_id
from bertrt.batch.inputs import InputFile, reader_of
from bertrt.batch.rows import Block, Columns, Range, Rows
from bertrt.errors import InputError, shorten

__all__ = ["Plan", "Shard", "make_plan", "read_rows"]

# Rows that are answered together: see TableAnswerer.
_ROWS = 1024
# Fewer are, if they are long.
_LETTERS = 16 << 20
# What the number in a shard's name has at least.
_DIGITS = 5


@dataclass(frozen=True)
class Shard:
    """A part of the output.

    Attributes:
        number: its place among all shards.
        name: of its files, without an ending; names sort as numbers do.
        first_row: the number of its first row.
        ranges: where its rows lie.
    """

    number: int
    name: str
    first_row: int
    ranges: Sequence[Range]

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return sum(one.rows for one in self.ranges)


@dataclass(frozen=True)
class Plan:
    """The shards of a job, in the order of the input.

    Attributes:
        shards: all of them.
        id_type: the type of ids, "int64" or "string"; None if rows have none.
    """

    shards: Sequence[Shard]
    id_type: str | None

    @property
    def rows(self) -> int:
        """How many rows the job has."""
        return sum(shard.rows for shard in self.shards)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON's types; a range is a list of its fields."""
        shards = [[list(astuple(one)) for one in shard.ranges] for shard in self.shards]
        return {"id_type": self.id_type, "shards": shards}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Plan":
        """Read what `to_json` returned."""
        shards = [tuple(Range(*one) for one in ranges) for ranges in data["shards"]]
        return cls(_number(shards), data["id_type"])


def make_plan(
    inputs: Sequence[InputFile],
    columns: Columns,
    *,
    shard_rows: int,
    allow_duplicate_ids: bool,
    report: Callable[[int], None],
) -> Plan:
    """Read where all rows lie, and their ids.

    Args:
        inputs: the files.
        columns: the columns that they must have.
        shard_rows: how many rows a shard has at most.
        allow_duplicate_ids: whether an id may occur twice.
        report: called with how many rows were read.

    Raises InputError for a file that cannot be read, for an id that cannot be used or that occurs
    twice, and for numbers and strings among the ids.
    """
    cutter = _Cutter(shard_rows)
    kinds: dict[type, str] = {}
    rows = 0
    with DuplicateFinder() as finder:
        for number, path, block in _scan(inputs, columns):
            cutter.add(number, block)
            rows += len(block.ends)
            report(rows)
            for kind in {*map(type, block.ids)} - {type(None)}:
                kinds.setdefault(kind, path)
            if len(kinds) > 1:
                raise InputError(
                    f"the ids are whole numbers in {kinds[int]!r} and strings in {kinds[str]!r}: "
                    "make them alike"
                )
            if not allow_duplicate_ids:
                finder.add(block.ids)
        suspicious = finder.find()
    if suspicious:
        _check_unique(inputs, columns, suspicious)
    id_type = None if columns.id is None else "int64" if int in kinds else "string"
    return Plan(_number(cutter.finish()), id_type)


def read_rows(inputs: Sequence[InputFile], columns: Columns, shard: Shard) -> Iterator[Rows]:
    """Yield the rows of a shard in groups to be answered together."""
    group = Rows()
    for where in shard.ranges:
        file = inputs[where.file]
        left = where.rows
        for rows in _read_range(file, columns, where):
            left -= len(rows)
            is_full = len(group) + len(rows) > _ROWS or group.letters + rows.letters > _LETTERS
            if group and is_full:
                yield group
                group = Rows()
            group.ids += rows.ids
            group.texts += rows.texts
        if left:
            raise _changed(file)
    if group:
        yield group


def _read_range(file: InputFile, columns: Columns, where: Range) -> Iterator[Rows]:
    """Yield the rows of a range. Raises InputError if the file was changed meanwhile."""
    path = Path(file.path)
    with reading(path):
        yield from reader_of(path).read(path, columns, where)
        if InputFile.of(path) != file:
            raise _changed(file)


def _changed(file: InputFile) -> InputError:
    return InputError(f"{file.path!r} was changed while it was read: start again")


def _scan(inputs: Sequence[InputFile], columns: Columns) -> Iterator[tuple[int, str, Block]]:
    for number, file in enumerate(inputs):
        path = Path(file.path)
        with reading(path):
            for block in reader_of(path).scan(path, columns):
                yield number, file.path, block


def _number(shards: Sequence[Sequence[Range]]) -> list[Shard]:
    """Give shards their numbers, names and first rows."""
    numbered: list[Shard] = []
    first_row = 0
    digits = max(_DIGITS, len(str(len(shards) - 1)))
    for number, ranges in enumerate(shards):
        numbered.append(Shard(number, f"part-{number:0{digits}}", first_row, ranges))
        first_row += numbered[-1].rows
    return numbered


def _check_unique(
    inputs: Sequence[InputFile], columns: Columns, suspicious: frozenset[int]
) -> None:
    """Raise InputError if two of the ids with these hashes are equal."""
    first: dict[int | str, int] = {}
    row = 0
    for _, path, block in _scan(inputs, columns):
        for id in block.ids:
            if id is not None and hash_id(id) in suspicious:
                if id in first:
                    raise InputError(
                        f"the id {shorten(id)} of row {first[id]:,} occurs again in row {row:,}, "
                        f"in {path!r}: make ids unique, or allow duplicate ids, with which the "
                        "row's number is the key"
                    )
                first[id] = row
            row += 1


class _Cutter:
    """Cuts rows into shards."""

    def __init__(self, shard_rows: int) -> None:
        self._shard_rows = shard_rows
        self._shards: list[list[Range]] = []
        self._room = 0
        # The file of the last range, and where it ends.
        self._file = -1
        self._position = 0
        self._line = 0

    def add(self, file: int, block: Block) -> None:
        """Take the next rows of a file."""
        if file != self._file:
            self._file, self._position, self._line = file, 0, int(bool(block.lines))
        done = 0
        while done < len(block.ends):
            if not self._room:
                self._shards.append([])
                self._room = self._shard_rows
            count = min(self._room, len(block.ends) - done)
            done += count
            self._room -= count
            stop = block.ends[done - 1]
            self._extend(Range(file, self._position, stop, count, self._line))
            self._position = stop
            self._line = block.lines[done - 1] if block.lines else 0

    def finish(self) -> list[list[Range]]:
        """Return the shards; one without rows if there is none, so that the output has a file."""
        return self._shards or [[]]

    def _extend(self, added: Range) -> None:
        """Add rows to the last shard, in one range with those before them if these are there."""
        ranges = self._shards[-1]
        if ranges and (ranges[-1].file, ranges[-1].stop) == (added.file, added.start):
            last = ranges.pop()
            rows = last.rows + added.rows
            added = Range(last.file, last.start, added.stop, rows, last.line)
        ranges.append(added)
