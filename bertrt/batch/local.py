"""Run a job in this process, a shard after the other."""

from collections.abc import Mapping
from functools import partial

from bertrt.batch.job import job_schema, open_job
from bertrt.batch.settings import Settings
from bertrt.batch.table_answerer import TableAnswerer
from bertrt.progress import ProgressCallback

__all__ = ["run_local"]


def run_local(
    settings: Settings, answerer: TableAnswerer, progress: ProgressCallback
) -> Mapping[str, int]:
    """Run a job, or what is left of it; return its counts: rows, answers, errors and truncated.

    Args:
        settings: what it is asked to do.
        answerer: what answers, by these settings.
        progress: called with how many rows are done.

    Raises InputError as `open_job` and `Job.answer_shard` do.
    """
    with open_job(settings, answerer, partial(report_plan, progress)) as job:
        unfinished = job.unfinished()
        total = job.plan.rows
        done = total - sum(shard.rows for shard in unfinished)

        def report(rows: int) -> None:
            nonlocal done
            done += rows
            progress(done, total, f"{done:,} of {total:,} rows")

        for shard in unfinished:
            job.answer_shard(answerer, shard, report)
        return job.finish(job_schema(settings, job.plan, answerer))


def report_plan(progress: ProgressCallback, rows: int) -> None:
    """Say how many rows a plan has so far."""
    progress(rows, None, f"planning: {rows:,} rows")
