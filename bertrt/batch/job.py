"""A job: answer all rows of some files into a directory, and go on after a kill.

`open_job` checks everything and plans; `Job.answer_shard` does a part, in any order and in any
process; `Job.finish` completes the directory.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from bertrt._version import __version__
from bertrt.batch.arrow import import_arrow
from bertrt.batch.inputs import InputFile, find_inputs
from bertrt.batch.output_directory import OutputDirectory
from bertrt.batch.plan import Plan, Shard, make_plan, read_rows
from bertrt.batch.rows import Rows
from bertrt.batch.settings import ROW, Settings
from bertrt.batch.shard_writers import ShardWriter, shard_writer
from bertrt.batch.table_answerer import TableAnswerer
from bertrt.errors import InputError

__all__ = ["Job", "open_job"]

Report = Callable[[int], None]
# What a job counts: rows, those with an answer, those with an error, and those that were cut.
COUNTS = ("rows", "answers", "errors", "truncated")


@dataclass(frozen=True)
class Job:
    """A job whose directory this process holds, or, in a process that it was sent to, a copy.

    Attributes:
        settings: what it is asked to do.
        inputs: the files.
        plan: its shards.
        identity: what has to stay the same when it goes on.
    """

    settings: Settings
    inputs: Sequence[InputFile]
    plan: Plan
    identity: Mapping[str, Any]

    @cached_property
    def directory(self) -> OutputDirectory:
        """Where it writes."""
        return OutputDirectory(self.settings.output)

    @cached_property
    def writer(self) -> ShardWriter:
        """What writes its shards."""
        return shard_writer(self.settings.format, self.directory.path)

    def unfinished(self) -> list[Shard]:
        """Return the shards that are not there yet."""
        if self.directory.is_complete:
            return []
        return [shard for shard in self.plan.shards if not self._is_finished(shard)]

    def answer_shard(self, answerer: TableAnswerer, shard: Shard, report: Report) -> None:
        """Answer the rows of a shard and write them.

        Args:
            answerer: what answers, by the job's settings.
            shard: the shard.
            report: called with how many more rows are answered.

        Raises InputError for a file that cannot be read any more, and for a row that cannot be
        answered if errors are not to be written.
        """
        schema = job_schema(self.settings, self.plan, answerer)

        def tables() -> Iterator[Any]:
            row = shard.first_row
            counts: Counter[str] = Counter(dict.fromkeys(COUNTS, 0))
            for rows in read_rows(self.inputs, self.settings.columns, shard):
                table = self._answer(answerer, schema, rows, row)
                row += len(rows)
                counts.update(_count(table))
                report(len(rows))
                yield table
            # Before the shard appears, which then has them for certain.
            self.directory.write_counts(shard.name, counts)

        self.writer.write(shard, schema, tables())

    def finish(self, schema: Any) -> dict[str, int]:
        """Complete the directory when all shards are there; return the counts of all rows.

        Raises InputError for a complete directory that has lost a file.
        """
        directory = self.directory
        if directory.is_complete:
            directory.remove_working_files()
            return directory.read_complete_counts()
        total: Counter[str] = Counter(dict.fromkeys(COUNTS, 0))
        for shard in self.plan.shards:
            total.update(directory.read_counts(shard.name))
        files = self.writer.finish(self.plan, schema)
        described = {"bertrt": __version__, "files": files, "counts": dict(total)}
        directory.complete({**described, **_describe(self)})
        return dict(total)

    def _is_finished(self, shard: Shard) -> bool:
        return self.writer.has(shard) and self.directory.has_counts(shard.name)

    def _answer(self, answerer: TableAnswerer, schema: Any, rows: Rows, first: int) -> Any:
        arrow = import_arrow()
        numbers = arrow.array(range(first, first + len(rows)), arrow.int64())
        ids = arrow.array(rows.ids, self.plan.id_type) if self.plan.id_type else numbers
        table = answerer.answer(ids, rows.texts)
        if self.settings.with_row:
            table = table.add_column(0, schema.field(ROW), numbers)
        return table.cast(schema)


def job_schema(settings: Settings, plan: Plan, answerer: TableAnswerer) -> Any:
    """Return the schema of a job's output."""
    arrow = import_arrow()
    schema = answerer.schema(arrow.type_for_alias(plan.id_type or "int64"))
    if settings.with_row:
        schema = schema.insert(0, arrow.field(ROW, arrow.int64()))
    return schema


@contextlib.contextmanager
def open_job(settings: Settings, answerer: TableAnswerer, report: Report) -> Iterator[Job]:
    """Yield a job, new or begun before, and hold its directory.

    Args:
        settings: what it is asked to do.
        answerer: what answers, by these settings.
        report: called with how many rows a new job's plan has so far.

    Raises InputError, before anything is written, for inputs that cannot be used and for a
    directory that has other files or another job, and while another process works on it.
    """
    directory = OutputDirectory(settings.output)
    directory.check()
    inputs = find_inputs(settings.inputs, settings.output)
    identity = settings.identity(answerer)
    plan = _saved_plan(directory, inputs, identity)
    is_new = plan is None
    if plan is None:
        plan = make_plan(
            inputs,
            settings.columns,
            shard_rows=settings.shard_rows,
            allow_duplicate_ids=settings.allow_duplicate_ids,
            report=report,
        )
    job = Job(settings, inputs, plan, identity)
    schema = job_schema(settings, plan, answerer)
    job.writer.check(schema)
    with directory.locked():
        # Another process may have begun, or ended, meanwhile.
        if _saved_plan(directory, inputs, identity) is None:
            if not is_new:
                raise InputError(f"{str(directory.path)!r} was removed meanwhile: start again")
            directory.write_plan(_describe(job))
        if not directory.is_complete:
            job.writer.begin(plan, schema)
        yield job


def _saved_plan(
    directory: OutputDirectory, inputs: Sequence[InputFile], identity: Mapping[str, Any]
) -> Plan | None:
    """Return the plan of the job that a directory has; None if it has none.

    Raises InputError if it is another job.
    """
    saved = directory.read()
    if saved is None:
        return None
    different = [name for name in identity if saved["job"].get(name) != identity[name]]
    if not different and saved["inputs"] != [asdict(file) for file in inputs]:
        different = ["input"]
    if different:
        raise InputError(
            f"{str(directory.path)!r} has a job with another {different[0]}: choose another "
            "--output, or delete it"
        )
    return Plan.from_json(saved["plan"])


def _describe(job: Job) -> dict[str, Any]:
    """Return what a job is, as JSON's types."""
    inputs = [asdict(file) for file in job.inputs]
    return {"job": dict(job.identity), "inputs": inputs, "plan": job.plan.to_json()}


def _count(table: Any) -> dict[str, int]:
    """Return the counts of a table of answers."""
    compute = import_arrow().compute
    truncated = table["truncated"]
    return {
        "rows": table.num_rows,
        "answers": table.num_rows - truncated.null_count,
        "errors": table.num_rows - table["error"].null_count,
        "truncated": compute.sum(truncated).as_py() or 0,
    }
