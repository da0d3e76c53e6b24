"""Jobs that embed a corpus in a file: bertrt's own, and distributed engines on this machine.

Each run of a job is a process, or a cluster, of its own: it starts, reads a Parquet file, embeds
its texts, writes their vectors with their ids, and ends.
"""

import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.contenders.bertrt import CONTENDERS as BERTRT
from benchmarks.contenders.contender import Contender
from benchmarks.contenders.requirements import packages_missing
from benchmarks.data.models import Model
from benchmarks.harness.job import JobUsage, run_job

__all__ = ["CONTENDERS", "CorpusJob"]

_JOBS = Path(__file__).parent / "jobs"
_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "SPARK_LOCAL_IP": "127.0.0.1"}
# Rows that a file keeps together, which engines take as pieces of work.
_ROW_GROUP = 2048

# Returns a job's command for a threads' number, an input file and an output.
Command = Callable[[int, Path, Path], Sequence[str]]


class CorpusJob:
    """A job, ready to be run on any texts; a `LoadedModel` that takes texts alone."""

    def __init__(self, command: Command, threads: int) -> None:
        self._command = command
        self._threads = threads

    def answer(self, texts: list[str]) -> np.ndarray:
        """See `LoadedModel`; one run of the job."""
        return self.run_on(texts)[1]

    def run(self, *_: np.ndarray) -> np.ndarray:
        """Raise ValueError: jobs take texts."""
        raise ValueError("a job takes texts, and not token ids")

    def run_on(self, texts: Sequence[str]) -> tuple[JobUsage, np.ndarray]:
        """Run the job; return what it used, and the vectors in the order of the texts.

        Raises RuntimeError if it fails, or if a text has no vector or several.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        with tempfile.TemporaryDirectory() as name:
            source, output = Path(name) / "texts.parquet", Path(name) / "vectors.parquet"
            ids = np.arange(len(texts))
            pq.write_table(pa.table({"id": ids, "text": texts}), source, row_group_size=_ROW_GROUP)
            used = run_job(self._command(self._threads, source, output), _ENVIRONMENT)
            table = pq.read_table(output, columns=["id", "embedding"])
        found = table["id"].to_numpy()
        if not np.array_equal(np.sort(found), ids):
            raise RuntimeError(f"of {len(texts)} rows the output has {len(found)}, or other ids")
        vectors = np.array(table["embedding"].to_pylist(), np.float32)
        return used, vectors[np.argsort(found)]


def _script(name: str, model: Path) -> Command:
    def command(threads: int, source: Path, output: Path) -> Sequence[str]:
        script = str(_JOBS / f"{name}.py")
        return [sys.executable, "-P", script, str(model), str(threads), str(source), str(output)]

    return command


def _batch(artifact: Path, engine: str) -> Command:
    def command(threads: int, source: Path, output: Path) -> Sequence[str]:
        given = ["--input", source, "--output", output, "--column", "text", "--id", "id"]
        given += ["--task", "embed", "--engine", engine, "--threads", threads]
        bertrt = Path(sys.executable).parent / "bertrt"
        return [str(part) for part in (bertrt, "batch", artifact, *given)]

    return command


def _bertrt(
    title: str,
    command: Callable[[Path], Command],
    *packages: str,
    environment: str = "bench",
) -> Contender:
    """A job with what bertrt's own contender exports."""
    library = BERTRT["bertrt"]

    def load(model: Model, task: str, folder: Path, threads: int) -> CorpusJob:
        return CorpusJob(command(folder / "artifact"), threads)

    return Contender(
        title,
        library.precision,
        ("bertrt", "onnxruntime", "pyarrow", *packages),
        lambda: packages_missing("bertrt", "onnxruntime", "pyarrow", *packages),
        load,
        library.prepare,
        tasks=("embeddings",),
        environment=environment,
    )


def _load_ray_data(model: Model, task: str, folder: Path, threads: int) -> CorpusJob:
    checkpoint = model.checkpoint(task)
    return CorpusJob(_script("ray_data_sentence_transformers", checkpoint), threads)


CONTENDERS = {
    "bertrt_loop": _bertrt("bertrt, plain loop", lambda artifact: _script("plain_loop", artifact)),
    "bertrt_batch": _bertrt("bertrt batch", lambda artifact: _batch(artifact, "local")),
    "bertrt_batch_ray": _bertrt(
        "bertrt batch, Ray Data",
        lambda artifact: _batch(artifact, "ray"),
        "ray",
        environment="ray",
    ),
    "bertrt_spark": _bertrt(
        "Spark, bertrt",
        lambda artifact: _script("spark_bertrt", artifact),
        "pyspark",
        environment="spark",
    ),
    "ray_data_sentence_transformers": Contender(
        "Ray Data, sentence-transformers",
        "float32",
        ("ray", "pyarrow", "sentence-transformers", "torch", "transformers"),
        lambda: packages_missing("ray", "pyarrow", "sentence_transformers", "torch"),
        _load_ray_data,
        tasks=("embeddings",),
        environment="ray",
    ),
}
