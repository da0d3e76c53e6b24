r"""Read rows of JSON lines and CSV files, of which a position is a byte.

Lines end with \n or \r\n. Empty lines are no rows. A line that cannot be read is a row with an
error.
"""

import csv
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from bertrt.batch.rows import Block, Columns, MissingColumnError, Range, Rows, check_id
from bertrt.errors import InputError

__all__ = ["CsvReader", "JsonLinesReader"]

_ROWS = 1024
# A longer row is an error, so that a file without line ends takes no more memory than others.
_LONGEST = 16 << 20
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class _Record:
    """A row as it lies in a file: `line` is its first line, `next_line` the one after it."""

    end: int
    line: int
    next_line: int
    value: dict[str, Any] | InputError


class _RecordReader(ABC):
    """What both formats share; a subclass reads records."""

    @abstractmethod
    def _records(
        self, file: BinaryIO, columns: Columns, start: int, line: int
    ) -> Iterator[_Record]:
        """Yield the records from a position on."""

    def scan(self, path: Path, columns: Columns) -> Iterator[Block]:
        known: dict[str, None] = {}
        missing = list(columns.names)
        rows = 0
        with path.open("rb") as file:
            for group in _grouped(self._records(file, columns, 0, 1)):
                ids: list[int | str | None] = []
                for record in group:
                    value = {} if isinstance(record.value, InputError) else record.value
                    if missing:
                        missing = [name for name in missing if name not in value]
                        known.update(dict.fromkeys(list(value)[:20]) if len(known) < 20 else {})
                    if columns.id is not None:
                        where = f"{str(path)!r} line {record.line}"
                        ids.append(check_id(value.get(columns.id), where))
                rows += len(group)
                yield Block([r.end for r in group], ids, [r.next_line for r in group])
        if rows and missing and known:
            raise MissingColumnError(path, missing[0], list(known))

    def read(self, path: Path, columns: Columns, where: Range) -> Iterator[Rows]:
        with path.open("rb") as file:
            records = self._records(file, columns, where.start, where.line)
            for group in _grouped(islice(records, where.rows)):
                rows = Rows()
                for record in group:
                    value = record.value
                    id: Any = None
                    text: Any = value
                    if isinstance(value, dict):
                        id, text = value.get(columns.id or ""), value.get(columns.text)
                    if columns.id is not None:
                        rows.ids.append(id)
                    rows.texts.append(_check_text(text, record.line))
                yield rows


class JsonLinesReader(_RecordReader):
    """Reads files with a JSON object on each line. A key that a line lacks is null."""

    def _records(
        self, file: BinaryIO, columns: Columns, start: int, line: int
    ) -> Iterator[_Record]:
        for end, number, data in _lines(file, start, line):
            if data is None:
                yield _Record(end, number, number + 1, _too_long(number))
            elif data and not data.isspace():
                yield _Record(end, number, number + 1, _parse(data, number))


class CsvReader(_RecordReader):
    """Reads CSV files with a header. A field may have quotes and, in these, line ends.

    A wrong quote hides where the next record begins, so that it is an error of the file.
    """

    def _records(
        self, file: BinaryIO, columns: Columns, start: int, line: int
    ) -> Iterator[_Record]:
        csv.field_size_limit(_LONGEST)
        header = next(self._fields(file, 0, 1), None)
        if header is None:
            return
        names = header[3]
        columns.check_once(file.name, names)
        if start == 0:
            start, line = header[0], header[2]
        for end, number, next_line, fields in self._fields(file, start, line):
            value: dict[str, Any] | InputError = dict(zip(names, fields, strict=False))
            if len(fields) != len(names):
                value = InputError(
                    f"line {number} has {len(fields)} fields and the header has {len(names)}: "
                    "correct it"
                )
            yield _Record(end, number, next_line, value)

    def _fields(
        self, file: BinaryIO, start: int, line: int
    ) -> Iterator[tuple[int, int, int, list[str]]]:
        """Yield the fields of each record, with its end, its first line and the next one's."""
        texts = _Texts(file, start, line)
        number = line
        try:
            # Strict, or rows would become one without a word.
            for fields in csv.reader(texts, strict=True):
                if fields:
                    yield texts.end, number, texts.next_line, fields
                number = texts.next_line
        except csv.Error as error:
            reason = "a quote is never closed" if texts.is_read else error
            raise InputError(
                f"{file.name!r} line {number} is not CSV ({reason}): correct it"
            ) from error


class _Texts:
    """The lines of a file as text, of which a record takes one or more.

    Attributes:
        end: where the last line that was read ends.
        next_line: the number of the line after it.
        is_read: whether a line was asked for after the last one.
    """

    def __init__(self, file: BinaryIO, start: int, line: int) -> None:
        self.end, self.next_line = start, line
        self.is_read = False
        self._name = file.name
        self._lines = _lines(file, start, line)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        try:
            self.end, number, data = next(self._lines)
        except StopIteration:
            self.is_read = True
            raise
        self.next_line = number + 1
        if data is None:  # it may have quotes, so that no one knows where the next record begins
            raise InputError(f"{self._name!r}: {_too_long(number)}")
        return data.decode(errors="surrogateescape")


def _lines(file: BinaryIO, start: int, line: int) -> Iterator[tuple[int, int, bytes | None]]:
    """Yield each line from a position on, with its end and its number; None for one too long."""
    file.seek(start)
    end = start
    while data := file.readline(_LONGEST + 1):
        size, is_too_long = len(data), len(data) > _LONGEST
        while is_too_long and not data.endswith(b"\n") and (data := file.readline(_LONGEST)):
            size += len(data)
        if end == 0:
            data = data.removeprefix(_BOM)
        end += size
        yield end, line, None if is_too_long else data
        line += 1


def _grouped(records: Iterator[_Record]) -> Iterator[list[_Record]]:
    """Yield the records in lists of a thousand, or fewer if they are long."""
    group: list[_Record] = []
    begin = None
    for record in records:
        begin = record.end if begin is None else begin
        group.append(record)
        if len(group) == _ROWS or record.end - begin > _LONGEST:
            yield group
            group, begin = [], record.end
    if group:
        yield group


def _parse(data: bytes, number: int) -> dict[str, Any] | InputError:
    """Return the object that a line is, or why it is none."""
    try:
        value = json.loads(data.rstrip(b"\r\n"))
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        return InputError(f"line {number} is not JSON ({reason}): correct it")
    if not isinstance(value, dict):
        return InputError(f'line {number} is JSON, but no object: write {{"text": …}}')
    return value


def _check_text(text: Any, number: int) -> str | InputError | None:
    if text is None or isinstance(text, (str, InputError)):
        return text
    return InputError(f"the text in line {number} is {type(text).__name__}: give a string")


def _too_long(number: int) -> InputError:
    return InputError(f"line {number} has more than {_LONGEST >> 20} MiB: shorten it")
