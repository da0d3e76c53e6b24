"""Ray Serve on one machine: bertrt, and sentence-transformers as Ray's documentation writes it.

Each is a cluster of its own, which ends with the process that the worker starts.
"""

import sys
from pathlib import Path

from benchmarks.contenders.bertrt import CONTENDERS as BERTRT
from benchmarks.contenders.contender import Contender
from benchmarks.contenders.http_servers import APPS, OPENAI, PLAIN, HttpServer, free_port
from benchmarks.contenders.requirements import packages_missing
from benchmarks.data.models import Model

__all__ = ["CONTENDERS"]

_QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}
_FAST = {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}
_HAPROXY = {**_FAST, "RAY_SERVE_ENABLE_HA_PROXY": "1"}


def _command(app: str) -> list[str]:
    return [sys.executable, "-P", str(APPS / f"{app}.py")]


def _bertrt(title: str, **environment: str) -> Contender:
    library = BERTRT["bertrt"]

    def load(model: Model, task: str, folder: Path, threads: int) -> HttpServer:
        port = free_port()
        told = {"ARTIFACT": str(folder / "artifact"), "PORT": str(port), "THREADS": str(threads)}
        return HttpServer(_command("ray_bertrt"), port, OPENAI, **told, **_QUIET, **environment)

    return Contender(
        title,
        library.precision,
        ("bertrt", "onnxruntime", "ray", "uvicorn", "orjson"),
        lambda: packages_missing("bertrt", "onnxruntime", "ray", "httptools", "orjson"),
        load,
        library.prepare,
        tasks=("embeddings",),
        environment="ray",
    )


def _load_sentence_transformers(model: Model, task: str, folder: Path, threads: int) -> HttpServer:
    port = free_port()
    told = {"MODEL": str(model.checkpoint(task)), "PORT": str(port), "THREADS": str(threads)}
    return HttpServer(_command("ray_sentence_transformers"), port, PLAIN, **told, **_QUIET)


CONTENDERS = {
    "ray_serve_bertrt": _bertrt("Ray Serve, bertrt"),
    "ray_serve_bertrt_fast": _bertrt("Ray Serve, bertrt, throughput optimized", **_FAST),
    "ray_serve_bertrt_haproxy": _bertrt("Ray Serve, bertrt, HAProxy", **_HAPROXY),
    "ray_serve_sentence_transformers": Contender(
        "Ray Serve, sentence-transformers",
        "float32",
        ("ray", "sentence-transformers", "torch", "transformers"),
        lambda: packages_missing("ray", "sentence_transformers", "torch", "httptools", "orjson"),
        _load_sentence_transformers,
        tasks=("embeddings",),
        environment="ray",
    ),
}
