"""Mixed lengths: a whole corpus at once, in whatever batches a contender makes of it.

The corpus has short texts and a long tail, as real ones do (`benchmarks.data.corpus`). Careless
batching costs padding. Tokenizing and padding are part of the measured time.
"""

from collections.abc import Iterator, Sequence

from benchmarks.data.corpus import SEED, mixed
from benchmarks.data.models import TEXT_TASKS, Model
from benchmarks.harness.config import BenchConfig
from benchmarks.harness.correctness import dismiss_wrong, reference_answers_to_texts
from benchmarks.harness.passes import measure_passes
from benchmarks.harness.rows import Row, distinct
from benchmarks.harness.worker_pool import WorkerPool, split_by_memory, worker_pool

__all__ = ["NAME", "TASKS", "measure"]

NAME = "mixed"
TASKS = TEXT_TASKS

_COUNT = 256
# A longer corpus sorts into more even batches; with larger models it takes too long.
_LONG_COUNT = 1024
_LONG_MODELS = ("minilm",)


def counts(model: Model, quick: bool) -> list[int]:
    """Return the sizes of the corpora that a model is measured with."""
    return [_COUNT, _LONG_COUNT] if model.name in _LONG_MODELS and not quick else [_COUNT]


def measure(config: BenchConfig, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    """Measure texts per second; yield a row for each contender and corpus, timed or refused."""
    return distinct(_measure(config, model, task, names))


def _measure(config: BenchConfig, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    weights = model.checkpoint(task) / "model.safetensors"
    for group in split_by_memory(names, weights.stat().st_size, gpu_bytes=config.gpu_bytes):
        with worker_pool(config, model, task, group) as pool:
            for count in counts(model, config.quick):
                yield from _measure_corpus(config, model, task, group, pool, count)


def _measure_corpus(
    config: BenchConfig, model: Model, task: str, group: Sequence[str], pool: WorkerPool, count: int
) -> Iterator[Row]:
    config.report(f"  {model.name} {task} {count} texts of mixed lengths")
    texts = mixed(count, mask=task == "fill-mask")
    expected = reference_answers_to_texts(config, model, task, texts)
    errors = dismiss_wrong(pool, expected, f"to {count} texts", "answer", texts=texts)
    yield from measure_passes(
        config,
        pool,
        errors,
        workload=NAME,
        model=model,
        task=task,
        group=group,
        count=count,
        settings={"corpus_seed": SEED},
        verb="time_answer",
        texts=texts,
    )
