"""The input files of a job."""

import glob
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertrt.batch.read_lines import CsvReader, JsonLinesReader
from bertrt.batch.read_parquet import ParquetReader
from bertrt.batch.rows import Reader
from bertrt.errors import InputError

__all__ = ["InputFile", "find_inputs", "reader_of"]

_READERS: Mapping[str, Reader] = {
    ".parquet": ParquetReader(),
    ".jsonl": JsonLinesReader(),
    ".ndjson": JsonLinesReader(),
    ".csv": CsvReader(),
}


@dataclass(frozen=True)
class InputFile:
    """A file: its absolute path, its size in bytes, and when it was changed, in ns."""

    path: str
    size: int
    modified: int


def find_inputs(patterns: Sequence[str]) -> list[InputFile]:
    """Return the files of patterns, those of each pattern by name, and each file once.

    Raises InputError for a pattern without files, and for a file whose name has another ending.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        # A name may have the signs of a pattern.
        names = [pattern] if Path(pattern).is_file() else glob.glob(pattern, recursive=True)
        paths = [path for path in map(Path, names) if path.is_file()]
        if not paths:
            raise InputError(
                f"no file is found at {pattern!r}: give a path, or a pattern in quotes"
            )
        found.update(dict.fromkeys(path.resolve() for path in sorted(paths)))
    for path in found:
        if path.suffix not in _READERS:
            raise InputError(f"{str(path)!r} does not end in {', '.join(_READERS)}: convert it")
    stats = {path: path.stat() for path in found}
    return [InputFile(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()]


def reader_of(path: Path) -> Reader:
    """Return the reader of a file, by the ending of its name."""
    return _READERS[path.suffix]
