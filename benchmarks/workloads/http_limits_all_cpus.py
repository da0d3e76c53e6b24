"""What a server of embeddings survives, with a CPU for more than the model's thread.

See `http_limits` and `all_cpus`."""

from collections.abc import Iterator, Sequence

from benchmarks.data.models import Model
from benchmarks.harness.config import BenchConfig
from benchmarks.harness.rows import Row
from benchmarks.workloads import http_limits
from benchmarks.workloads.all_cpus import measure_on_all_cpus

__all__ = ["CONTENDERS", "MODELS", "NAME", "TASKS", "measure"]

NAME = "http_limits_all_cpus"
TASKS = http_limits.TASKS
MODELS = http_limits.MODELS
CONTENDERS = http_limits.CONTENDERS


def measure(config: BenchConfig, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of latencies of `http_limits`, where contenders may use all CPUs."""
    rows = http_limits.measure_probes(config, model, task, names, http_limits.latency_probes)
    yield from measure_on_all_cpus(rows, NAME)
