"""Embeddings over HTTP, with a CPU for more than the model's thread: see `http` and `all_cpus`."""

from collections.abc import Iterator, Sequence

from benchmarks.data.models import Model
from benchmarks.harness.config import BenchConfig
from benchmarks.harness.rows import Row
from benchmarks.workloads import http
from benchmarks.workloads.all_cpus import measure_on_all_cpus

__all__ = ["CONTENDERS", "MODELS", "NAME", "TASKS", "measure"]

NAME = "http_all_cpus"
TASKS = http.TASKS
MODELS = http.MODELS
CONTENDERS = ("bertrt", "bertrt_serve", "fastapi", "fastapi_batched")


def measure(config: BenchConfig, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of `http`, measured where contenders may use all CPUs."""
    yield from measure_on_all_cpus(http.measure(config, model, task, names), NAME)
