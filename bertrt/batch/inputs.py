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

    @classmethod
    def of(cls, path: Path) -> "InputFile":
        """Return what a file is now."""
        stat = path.stat()
        return cls(str(path), stat.st_size, stat.st_mtime_ns)


def find_inputs(patterns: Sequence[str], output: Path) -> list[InputFile]:
    """Return the files of patterns, those of each pattern by name, and each file once.

    Files in the output directory are left out: a job that goes on would find its own parts.

    Raises InputError for a pattern without files, and for a file whose name has another ending.
    """
    output = output.resolve()
    found: dict[Path, Path] = {}
    for pattern in patterns:
        # A name may have the signs of a pattern.
        names = [pattern] if Path(pattern).is_file() else glob.glob(pattern, recursive=True)
        paths = [path for path in map(Path, names) if path.is_file()]
        if not paths:
            raise InputError(
                f"no file is found at {pattern!r}: give a path, or a pattern in quotes"
            )
        for path in sorted(paths):
            # A link's own name has the ending: caches link to files that are named by their hash.
            named = path.parent.resolve() / path.name
            if not named.is_relative_to(output):
                found.setdefault(path.resolve(), named)
    if not found:
        raise InputError(f"all input files lie in {str(output)!r}: choose another --output")
    for path in found.values():
        if path.suffix not in _READERS:
            raise InputError(f"{str(path)!r} does not end in {', '.join(_READERS)}: convert it")
    return [InputFile.of(path) for path in found.values()]


def reader_of(path: Path) -> Reader:
    """Return the reader of a file, by the ending of its name."""
    return _READERS[path.suffix]
