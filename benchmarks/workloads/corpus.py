"""A corpus in a file: whole jobs, from the start of a process or cluster to its end.

Each contender is a job (`benchmarks.contenders.corpus_jobs`) that reads a Parquet file and writes
vectors. A plain loop of `rt.embed` in one process is the ceiling. The time of a start is part of a
job, and matters less the longer a corpus is. Distributed engines run on this one machine: that
shows what they cost, and not how they scale.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.data.corpus import SEED, mixed
from benchmarks.data.models import Model
from benchmarks.harness.config import BenchConfig
from benchmarks.harness.correctness import Errors, check, reference_answers_to_texts
from benchmarks.harness.passes import throughput
from benchmarks.harness.rounds import rotations
from benchmarks.harness.rows import Row, refused
from benchmarks.harness.worker_pool import worker_pool
from benchmarks.harness.worker_process import RefusedError

__all__ = ["CONTENDERS", "MODELS", "NAME", "TASKS", "measure", "time_job"]

NAME = "corpus"
TASKS = ("embeddings",)
MODELS = ("minilm",)
CONTENDERS = (
    "bertrt_loop",
    "bertrt_batch",
    "bertrt_batch_ray",
    "ray_data_sentence_transformers",
    "bertrt_spark",
)

_ROWS, _QUICK_ROWS = 8192, 1024
_ROUNDS, _QUICK_ROUNDS = 3, 1
_DISTINCT = 1024  # whose answers the reference can be asked for in reasonable time
_TIMEOUT = 1200


def measure(config: BenchConfig, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    """Yield a row for each contender, timed or refused.

    A row has the metric texts_per_s, of whole jobs, and `cpu_ms`, CPU time for each text.
    """
    rows, rounds = (_QUICK_ROWS, _QUICK_ROUNDS) if config.quick else (_ROWS, _ROUNDS)
    rounds = min(rounds, config.rounds)
    texts = (mixed(_DISTINCT) * (rows // _DISTINCT + 1))[:rows]
    expected = reference_answers_to_texts(config, model, task, texts[:_DISTINCT])
    shape = f"{rows} rows"
    runs: dict[str, list[dict[str, Any]]] = {}
    errors: Errors = {}
    with worker_pool(config, model, task, names) as pool:
        for order in rotations(list(pool.workers), rounds):
            for name in order:
                if name not in pool.workers:
                    continue
                config.report(f"  {shape}, {name}")
                try:
                    run = pool.call(
                        name,
                        "apply",
                        timeout=_TIMEOUT,
                        function=time_job,
                        arguments={"texts": texts, "expected": expected},
                    )
                except RefusedError:
                    continue
                errors[name] = run["error"]
                if run["wrong"]:
                    pool.dismiss(name, f"wrong answer to {shape}: {run['wrong']}")
                else:
                    runs.setdefault(name, []).append(run)
        times = {name: [run["seconds"] for run in runs[name]] for name in pool.workers}
        for name in pool.workers:
            cpu = np.median([run["cpu_seconds"] for run in runs[name]])
            yield throughput(
                NAME,
                model,
                task,
                name,
                shape=shape,
                versions=pool.described[name]["versions"],
                error=errors[name],
                count=rows,
                times=times,
                cpu_ms=1000 * float(cpu) / rows,
                settings={"threads": config.threads, "corpus_seed": SEED},
            )
        for name, reason in pool.refused.items():
            yield refused(NAME, model, task, name, reason, shape=shape, error=errors.get(name, {}))


def time_job(loaded: Any, texts: list[str], expected: np.ndarray) -> dict[str, Any]:
    """Run a worker's job; return seconds, cpu_seconds, and the error of all its vectors.

    `expected` [n, H] are the reference's answers to the first n texts, which repeat.
    """
    used, vectors = loaded.run_on(texts)
    repeated = np.resize(expected, (len(texts), *expected.shape[1:]))
    verdict = check(vectors, repeated, "float32")
    return {
        "seconds": used.seconds,
        "cpu_seconds": used.cpu_seconds,
        "error": verdict.error,
        "wrong": verdict.wrong,
    }
