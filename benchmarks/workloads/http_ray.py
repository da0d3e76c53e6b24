"""Embeddings over HTTP by Ray Serve, beside the server that it wraps: see `http` and `all_cpus`.

All of a cluster is on this machine: its proxy, its controller and its scheduler have the CPUs that
the model has, and so has the client. This shows what Ray adds to a request, and never how it
scales.
"""

from collections.abc import Iterator, Sequence

from benchmarks.data.models import Model
from benchmarks.harness.config import BenchConfig
from benchmarks.harness.rows import Row
from benchmarks.workloads import http
from benchmarks.workloads.all_cpus import measure_on_all_cpus

__all__ = ["CONTENDERS", "MODELS", "NAME", "TASKS", "measure"]

NAME = "http_ray"
TASKS = http.TASKS
MODELS = http.MODELS
CONTENDERS = (
    "bertrt_serve",
    "ray_serve_bertrt",
    "ray_serve_bertrt_fast",
    "ray_serve_bertrt_haproxy",
    "ray_serve_sentence_transformers",
)


def measure(config: BenchConfig, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of `http`, with the number of machines in their settings: one."""
    for row in measure_on_all_cpus(http.measure(config, model, task, names), NAME):
        yield {**row, "settings": {**row["settings"], "machines": 1}}
