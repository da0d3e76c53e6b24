"""A pool of workers: one for each of several contenders, all with the same model loaded."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.contenders.registry import BASELINES, find
from benchmarks.data.models import Model
from benchmarks.harness.config import BenchConfig
from benchmarks.harness.worker_process import RefusedError, WorkerProcess

__all__ = ["WorkerPool", "prepare_once", "split_by_memory", "worker_pool"]

_READY = "prepared.json"
_PREPARE_TIMEOUT = 1200
# A worker's memory: bytes for its libraries, and copies of the model including loading.
_LIBRARY_BYTES = 600_000_000
_MODEL_COPIES = 2.5
# A GPU's memory: CUDA, graphs, and the largest batches. The weights are in half precision there,
# but take as much as in float32 while they are converted or are held in more than one form.
_GPU_LIBRARY_BYTES = 3_000_000_000
# What takes longest to prepare starts first, beside all the others.
_SLOWEST_TO_PREPARE = (
    "bertrt_int8",
    "openvino_int8",
    "bertrt",
    "bertrt_cuda",
    "bertrt_cuda_bfloat16",
)
# Times are compared within a group, so these contenders are in every group.
_ANCHORS = (*BASELINES.values(), "bertrt", "bertrt_int8", "bertrt_cuda")


@dataclass
class WorkerPool:
    """Running workers by contender, their descriptions, and why other contenders do not run."""

    workers: dict[str, WorkerProcess] = field(default_factory=dict)
    described: dict[str, dict[str, Any]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def call(self, name: str, verb: str, **arguments: Any) -> Any:
        """Call one worker; one that fails is dismissed, and RefusedError has the reason."""
        if name not in self.workers:
            raise RefusedError(self.refused.get(name, f"{name} is not in this pool"))
        try:
            return self.workers[name].call(verb, **arguments)
        except RefusedError as error:
            self.dismiss(name, str(error))
            raise

    def dismiss(self, name: str, reason: str) -> None:
        """Stop one worker."""
        self.workers.pop(name).close()
        self.refused[name] = reason


@contextmanager
def worker_pool(
    config: BenchConfig, model: Model, task: str, names: Sequence[str]
) -> Iterator[WorkerPool]:
    """Start workers for these contenders and load the model; stop them at the end of the block."""
    pool = WorkerPool()

    def start(name: str) -> None:
        contender = find(name)
        if task not in contender.tasks:
            pool.refused[name] = f"{contender.title} does not support {task}"
            return
        process = None
        try:
            process = WorkerProcess(name, config)
            described = _describe(process)
            folder = prepare_once(config, name, model, task, process)
            process.call("load", model=model, task=task, folder=str(folder), threads=config.threads)
        except RefusedError as error:
            pool.refused[name] = str(error)
            if process is not None:
                process.close()
            return
        pool.described[name] = described
        pool.workers[name] = process

    try:
        _for_each(config, names, start)
        # In the requested order, not in the order in which they became ready.
        pool.workers = {name: pool.workers[name] for name in names if name in pool.workers}
        yield pool
    finally:
        for process in pool.workers.values():
            process.close()


def prepare_once(
    config: BenchConfig, name: str, model: Model, task: str, process: WorkerProcess | None = None
) -> Path:
    """Return the folder of a contender's exports for a model and a task; make it if needed.

    It is made again when the versions of the contender's packages have changed.

    Raises RefusedError when that fails.
    """
    if process is None:
        with WorkerProcess(name, config) as process:
            return prepare_once(config, name, model, task, process)
    versions = _describe(process)["versions"]
    folder = config.folder / "prepared" / Path(model.folder).name / task / name
    if _read(folder / _READY) == versions:
        return folder
    config.report(f"  preparing {name} for {task} on {model.name}")
    staging = folder.with_name(f".{name}")
    for path in (folder, staging):
        shutil.rmtree(path, ignore_errors=True)
    staging.mkdir(parents=True)
    # In its own process, because an export leaves gigabytes in its process's memory.
    with WorkerProcess(name, config) as exporter:
        exporter.call(
            "prepare", timeout=_PREPARE_TIMEOUT, model=model, task=task, folder=str(staging)
        )
    (staging / _READY).write_text(json.dumps(versions))
    os.replace(staging, folder)
    return folder


def split_by_memory(
    names: Sequence[str],
    checkpoint_bytes: int,
    available_bytes: int | None = None,
    gpu_bytes: int | None = None,
) -> list[list[str]]:
    """Split contenders into groups of at least three whose workers fit into memory together.

    The baselines and bertrt are in every group, if they are among the contenders.

    Args:
        names: the contenders.
        checkpoint_bytes: the size of the model's weights in float32.
        available_bytes: this machine's memory; what is free now if None.
        gpu_bytes: the memory of the GPU that all of them use, if any.
    """
    if available_bytes is None:
        available_bytes = _available()
    worker_bytes = _LIBRARY_BYTES + _MODEL_COPIES * checkpoint_bytes
    anchors = [name for name in names if name in _ANCHORS]
    others = [name for name in names if name not in _ANCHORS]
    fitting = int(0.8 * available_bytes / worker_bytes)
    if gpu_bytes is not None:
        fitting = min(fitting, int(0.8 * gpu_bytes / (_GPU_LIBRARY_BYTES + checkpoint_bytes)))
    size = max(fitting, 3, len(anchors) + 1)
    if len(names) <= size:
        return [list(names)]
    step = size - len(anchors)
    groups = [{*anchors, *others[start : start + step]} for start in range(0, len(others), step)]
    return [[name for name in names if name in group] for group in groups]


def _describe(process: WorkerProcess) -> dict[str, Any]:
    described: dict[str, Any] = process.call("describe", timeout=120)
    if described["missing"]:
        raise RefusedError(described["missing"])
    return described


def _for_each(config: BenchConfig, names: Sequence[str], start: Callable[[str], None]) -> None:
    """Start as many at a time as there are threads: imports and exports mostly use one each."""
    slowest = {name: place for place, name in enumerate(_SLOWEST_TO_PREPARE)}
    order = sorted(names, key=lambda name: slowest.get(name, len(slowest)))
    with ThreadPoolExecutor(max_workers=config.threads) as executor:
        list(executor.map(start, order))


def _read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else None


def _available() -> int:
    """Return the bytes of memory that are free for new processes."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 8 << 30
