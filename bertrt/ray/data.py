"""Ray Data: answer the rows of a dataset, and run batch jobs on a cluster."""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from bertrt.batch.arrow import import_arrow
from bertrt.batch.job import Job, job_schema, open_job
from bertrt.batch.local import report_plan
from bertrt.batch.settings import Settings
from bertrt.batch.table_answerer import TableAnswerer
from bertrt.checks import check_whole
from bertrt.errors import BertrtError, InputError
from bertrt.progress import ProgressCallback

__all__ = ["map", "run_ray"]

# How often an actor that dies is started again, and a batch that dies with it is tried again. A
# text that kills a process would otherwise keep a job alive for ever.
_RESTARTS = 3
_ROWS = 1024


def map(
    dataset: Any,
    directory: str | Path,
    *,
    task: str | None = None,
    column: str = "text",
    id_column: str = "id",
    options: Mapping[str, Any] | None = None,
    on_error: str = "column",
    threads: int = 1,
    actors: int | tuple[int, int] | None = None,
    allow_spinning: bool = False,
    max_batch_tokens: int | str = "auto",
    **ray_options: Any,
) -> Any:
    """Answer the text in each row of a Ray dataset: `Dataset.map_batches` with `TableAnswerer`.

    Args:
        dataset: the dataset.
        directory: the artifact, at a path that is the same on each node.
        task, column, id_column, options, on_error: as for `bertrt.batch.TableAnswerer`.
        threads: the CPUs that each actor has, and its threads.
        actors: how many actors there are, or the least and the most; one and more, as the cluster
            has CPUs for, when None.
        allow_spinning, max_batch_tokens: as for `bertrt.load`.
        ray_options: other arguments of `map_batches`, such as `resources` and `max_restarts`.

    Returns a dataset with the columns that `TableAnswerer` returns.

    A pipeline that is killed starts again; `bertrt batch --engine ray` goes on. Where Ray would
    warn that it cannot use a `CheckpointConfig`, and start again, this is an error.

    Raises InputError for a checkpoint of another column than the ids, and of no files.
    """
    ray = _import_ray()
    check_whole("threads", threads, least=1)
    _check_checkpoint(dataset, id_column)
    pool = actors if isinstance(actors, tuple) else (actors or 1, actors)
    if ray.is_initialized():
        _warn_of_waiting(ray, threads * pool[0])
        _warn_of_small_nodes(ray, threads)
    return _map_batches(
        dataset,
        TableAnswerer,
        fn_constructor_args=[str(Path(directory).absolute())],
        fn_constructor_kwargs={
            "task": task,
            "column": column,
            "id_column": id_column,
            "options": options,
            "on_error": on_error,
            "threads": threads,
            "allow_spinning": allow_spinning,
            "max_batch_tokens": max_batch_tokens,
        },
        compute=ray.data.ActorPoolStrategy(min_size=pool[0], max_size=pool[1]),
        num_cpus=threads,
        **{"batch_size": _ROWS, **ray_options},
    )


def _warn_of_waiting(ray: Any, cpus: int) -> None:
    """Warn if actors take so many CPUs that nothing is left to read and write with."""
    found = ray.cluster_resources().get("CPU", 0)
    if found <= cpus:
        warnings.warn(
            f"the actors take {cpus} CPUs and the cluster has {found:g}: reading and writing need "
            "one as well, and wait until there is one; give fewer threads or actors",
            stacklevel=3,
        )


def _warn_of_small_nodes(ray: Any, cpus: int) -> None:
    """Warn if no node has as many CPUs as an actor takes: Ray waits for one without a word."""
    nodes = [node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]]
    largest = max(nodes, default=0)
    if largest < cpus:
        warnings.warn(
            f"an actor takes {cpus} CPUs and the largest node of the cluster has {largest:g}: "
            "nothing is answered until a larger one joins; give fewer threads",
            stacklevel=3,
        )


def _map_batches(dataset: Any, function: Any, **arguments: Any) -> Any:
    """Call `map_batches` for tables, with bounded restarts of actors."""
    given = {"max_restarts": _RESTARTS, "max_task_retries": _RESTARTS, **arguments}
    with warnings.catch_warnings():
        # Up to Ray 2.63 there is no other way to bound them.
        warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
        return dataset.map_batches(function, batch_format="pyarrow", **given)


def _check_checkpoint(dataset: Any, id_column: str) -> None:
    """Raise InputError for a checkpoint that Ray could not use; make its warning an error."""
    config = dataset.context.checkpoint_config
    if config is None:
        return
    if config.id_column != id_column:
        raise InputError(
            f"the checkpoint's id_column is {config.id_column!r}, and answers have {id_column!r}: "
            "give both the same"
        )
    if not _reads_files(dataset._logical_plan.dag):
        raise InputError(
            "the dataset has a checkpoint, and does not come from files, without which Ray starts "
            "again: read it from files, or leave the checkpoint out"
        )
    warnings.filterwarnings("error", message="You've enabled checkpointing, but")


def _reads_files(operator: Any) -> bool:
    """Whether all data of a plan come from files, where Ray leaves out what a checkpoint has."""
    inputs = operator.input_dependencies
    is_read = type(operator).__name__ in ("Read", "ReadFiles")
    return is_read or (bool(inputs) and all(_reads_files(one) for one in inputs))


def run_ray(
    settings: Settings,
    answerer: TableAnswerer,
    progress: ProgressCallback,
    *,
    actors: int | None = None,
    address: str | None = None,
) -> Mapping[str, int]:
    """Run a batch job, or what is left of it, on a cluster; return its counts.

    Each shard is answered and written by an actor with as many CPUs as it has threads. All nodes
    see the artifact, the input and the output at the same paths.

    Args:
        settings: what the job is asked to do, with a number of threads.
        answerer: what answers, by these settings; it is closed while actors work.
        progress: called when a shard is finished.
        actors: how many actors there are; one and more, as the cluster has CPUs for, when None.
        address: the cluster, as for `ray.init`. A cluster that the process is connected to already
            is used, and stays connected.

    Raises InputError as `bertrt.batch.local.run_local` does, and for the format npy.
    """
    ray = _import_ray()
    if settings.format == "npy":
        raise InputError(
            "an .npy array is one file, which several machines cannot write: choose the format "
            "parquet or jsonl"
        )
    with open_job(settings, answerer, partial(report_plan, progress)) as job:
        schema = job_schema(settings, job.plan, answerer)
        answerer.close()
        if job.unfinished():
            with _cluster(ray, address):
                _answer_shards(ray, job, answerer, progress, actors)
        return job.finish(schema)


def _answer_shards(
    ray: Any, job: Job, answerer: TableAnswerer, progress: ProgressCallback, actors: int | None
) -> None:
    """Answer the shards that are not there yet; raise the first error."""
    _warn_of_small_nodes(ray, job.settings.session["threads"])
    total = job.plan.rows
    unfinished = job.unfinished()
    done = total - sum(shard.rows for shard in unfinished)
    items = [{"shard": shard.number} for shard in unfinished]
    dataset = _map_batches(
        ray.data.from_items(items, override_num_blocks=len(items)),
        _ShardAnswerer,
        fn_constructor_args=[job, answerer],
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(min_size=actors or 1, max_size=actors or len(items)),
        num_cpus=job.settings.session["threads"],
    )
    for batch in dataset.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0):
        for row in batch.to_pylist():
            if row["error"] is not None:
                raise InputError(row["error"])
            done += row["rows"]
            progress(done, total, f"{done:,} of {total:,} rows")


class _ShardAnswerer:
    """Answers and writes shards, in an actor."""

    def __init__(self, job: Job, answerer: TableAnswerer) -> None:
        self._job = job
        self._answerer = answerer  # opens the artifact here, if it still is the driver's

    def __call__(self, batch: Any) -> Any:
        """Do the shards of a batch; return their rows, and why one of them has failed."""
        rows, errors = [], []
        for number in batch["shard"].to_pylist():
            shard = self._job.plan.shards[number]
            error = None
            try:
                self._job.answer_shard(self._answerer, shard, lambda rows: None)
            except BertrtError as caught:  # Ray would wrap it in a traceback
                error = str(caught)
            rows.append(shard.rows)
            errors.append(error)
        arrow = import_arrow()
        return arrow.table({"rows": rows, "error": arrow.array(errors, arrow.string())})


@contextlib.contextmanager
def _cluster(ray: Any, address: str | None) -> Iterator[None]:
    """Connect to a cluster, without the output of Ray Data, unless the process is connected."""
    context = ray.data.DataContext.get_current()
    bars, context.enable_progress_bars = context.enable_progress_bars, False
    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.ERROR)
    is_ours = not ray.is_initialized()
    if is_ours:
        ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    try:
        yield
    finally:
        if is_ours:
            ray.shutdown()
        logger.setLevel(level)
        context.enable_progress_bars = bars


def _import_ray() -> Any:
    """Return the module ray, with ray.data. Raises BertrtError if it cannot be imported."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise BertrtError(
            f"bertrt.ray needs packages that cannot be imported ({error}): install them with "
            "pip install 'bertrt[ray]'"
        ) from error
    return ray
