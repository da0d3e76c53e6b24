"""Rerank: a query with the passages that a search found for it, text in and scores out.

Several queries take turns, each with passages of its own, so that no cache of texts is timed.
Passages have the lengths of paragraphs (`benchmarks.data.corpus`), and each library makes batches
of the pairs as it does by default. Tokenizing and padding are part of the measured time.
"""

import time
from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.data.corpus import SEED, candidates
from benchmarks.data.models import Model
from benchmarks.harness.config import BenchConfig
from benchmarks.harness.correctness import dismiss_wrong, reference_answers
from benchmarks.harness.rounds import rotations, speedups, summary
from benchmarks.harness.rows import Row, distinct, refused, timed
from benchmarks.harness.worker_pool import WorkerPool, split_by_memory, worker_pool
from benchmarks.harness.worker_process import RefusedError

__all__ = ["CONTENDERS", "MODELS", "NAME", "TASKS", "count_tokens", "measure"]

NAME = "rerank"
TASKS = ("rerank",)
# Cross-encoders of this size are the usual ones on a CPU.
MODELS = ("minilm",)
# Measured when no contender is named: the libraries that rerank, and the engines below them.
CONTENDERS = (
    "eager",
    "ort_plain",
    "ort_quantize_dynamic",
    "openvino_float32",
    "sentence_transformers",
    "fastembed_rerank",
    "bertrt",
    "bertrt_int8",
)

_QUERIES = 4
_PASSAGES = 50
_SHAPE = f"{_PASSAGES} passages"
_LEAST_ROUNDS = 3
# Lets threads that still spin after their turn go to sleep before the next one's.
_PAUSE = 0.1

Candidates = Sequence[tuple[str, list[str]]]


def measure(config: BenchConfig, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    """Measure milliseconds per query; yield a row for each contender, timed or refused.

    A row's settings have `tokens`: those of a query's pairs, special ones included and padding
    not, as the mean of the queries.
    """
    return distinct(_measure(config, model, task, names))


def count_tokens(model: Model, task: str, queries: Candidates) -> int:
    """Return the tokens of a query's pairs, without padding, as the mean of the queries."""
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(model.checkpoint(task) / "tokenizer.json"))
    pairs = [(query, passage) for query, passages in queries for passage in passages]
    return round(sum(len(pair.ids) for pair in tokenizer.encode_batch(pairs)) / len(queries))


def _measure(config: BenchConfig, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    queries = candidates(_QUERIES, _PASSAGES)
    key = "\0".join(text for query, passages in queries for text in (query, *passages)).encode()
    expected = reference_answers(config, model, task, key, "rank", candidates=queries)
    settings = {
        "threads": config.threads,
        "corpus_seed": SEED,
        "queries": _QUERIES,
        "tokens": count_tokens(model, task, queries),
    }
    weights = model.checkpoint(task) / "model.safetensors"
    for group in split_by_memory(names, weights.stat().st_size, gpu_bytes=config.gpu_bytes):
        with worker_pool(config, model, task, group) as pool:
            config.report(f"  {model.name} {task} {_SHAPE}")
            what = f"to {_QUERIES} queries with {_PASSAGES} passages"
            errors = dismiss_wrong(pool, expected, what, "rank", centered=True, candidates=queries)
            times = _rounds(config, pool, queries)
            for name in group:
                if name in times:
                    yield timed(
                        NAME,
                        model,
                        task,
                        name,
                        shape=_SHAPE,
                        versions=pool.described[name]["versions"],
                        error=errors[name],
                        speedup=speedups(times, name),
                        settings=settings,
                        **summary(times[name]),
                    )
                else:
                    reason, error = pool.refused[name], errors.get(name, {})
                    yield refused(NAME, model, task, name, reason, shape=_SHAPE, error=error)


def _rounds(config: BenchConfig, pool: WorkerPool, queries: Candidates) -> dict[str, list[float]]:
    """Return the seconds of a query in each round, for the contenders that completed all."""
    times: dict[str, list[float]] = {name: [] for name in pool.workers}
    start = time.perf_counter()
    for done, order in enumerate(rotations(list(times), config.rounds)):
        if done >= _LEAST_ROUNDS and time.perf_counter() - start > config.seconds:
            break
        for name in order:
            if name not in times:
                continue
            try:
                calls = pool.call(name, "time_rank", candidates=queries)
                times[name].append(float(np.median(calls)))
            except RefusedError:
                del times[name]
            time.sleep(_PAUSE)
    return times
