"""A crew: the workers of several contenders, each with the same model loaded."""

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench import Bench
from contender import BASELINES, find
from models import Model
from process import Process, Refused

__all__ = ["Crew", "crew", "groups", "prepared"]

_READY = "prepared.json"
_PREPARE_TIMEOUT = 1200
# In the memory of a worker: its libraries, and the model with what is made while it is loaded.
_LIBRARIES = 600_000_000
_COPIES = 2.5
# And in a GPU's: CUDA itself, graphs, and what the largest batches take. The weights are halved,
# and on the way there, or in more than one form, twice as much.
_GPU_LIBRARIES = 3_000_000_000
# What takes longest to prepare begins first, beside all the others.
_LONGEST = ("bertrt_int8", "openvino_int8", "bertrt", "bertrt_cuda", "bertrt_cuda_bfloat16")
# Times are compared within a group, so these are in each.
_ANCHORS = (*BASELINES.values(), "bertrt", "bertrt_int8", "bertrt_cuda")


@dataclass
class Crew:
    """Running workers by contender, what each says of itself, and why others do not run."""

    workers: dict[str, Process] = field(default_factory=dict)
    described: dict[str, dict[str, Any]] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def call(self, name: str, verb: str, **arguments: Any) -> Any:
        """Ask one worker; when it fails it leaves the crew, and Refused has the reason."""
        if name not in self.workers:
            raise Refused(self.refused.get(name, f"{name} is not in this crew"))
        try:
            return self.workers[name].call(verb, **arguments)
        except Refused as reason:
            self.dismiss(name, str(reason))
            raise

    def dismiss(self, name: str, reason: str) -> None:
        """Stop one worker."""
        self.workers.pop(name).close()
        self.refused[name] = reason


@contextmanager
def crew(bench: Bench, model: Model, task: str, names: Sequence[str]) -> Iterator[Crew]:
    """Workers for these contenders with the model loaded; they end when the block does."""
    result = Crew()

    def start(name: str) -> None:
        if task not in find(name).TASKS:
            result.refused[name] = f"{find(name).TITLE} is not made for {task}"
            return
        process = None
        try:
            process = Process(name, bench)
            described = _describe(process)
            folder = prepared(bench, name, model, task, process)
            process.call(
                "load", model=asdict(model), task=task, folder=str(folder), threads=bench.threads
            )
        except Refused as reason:
            result.refused[name] = str(reason)
            if process is not None:
                process.close()
            return
        result.described[name] = described
        result.workers[name] = process

    try:
        _for_each(bench, names, start)
        # In the order that was asked for, not in the one in which they got ready.
        result.workers = {name: result.workers[name] for name in names if name in result.workers}
        yield result
    finally:
        for process in result.workers.values():
            process.close()


def prepared(
    bench: Bench, name: str, model: Model, task: str, process: Process | None = None
) -> Path:
    """The folder of a contender's exports for a model and a task, made unless it is there.

    It is made anew when the contender's packages have other versions than those it was made with.

    Raises Refused when that fails.
    """
    if process is None:
        with Process(name, bench) as process:
            return prepared(bench, name, model, task, process)
    versions = _describe(process)["versions"]
    folder = bench.folder / "prepared" / Path(model.folder).name / task / name
    if _read(folder / _READY) == versions:
        return folder
    bench.tell(f"  preparing {name} for {task} on {model.name}")
    staging = folder.with_name(f".{name}")
    for old in (folder, staging):
        shutil.rmtree(old, ignore_errors=True)
    staging.mkdir(parents=True)
    # In a process of its own: an export leaves gigabytes in the memory of the one that made it.
    with Process(name, bench) as exporter:
        exporter.call(
            "prepare",
            timeout=_PREPARE_TIMEOUT,
            model=asdict(model),
            task=task,
            folder=str(staging),
        )
    (staging / _READY).write_text(json.dumps(versions))
    os.replace(staging, folder)
    return folder


def groups(
    names: Sequence[str],
    checkpoint_bytes: int,
    available_bytes: int | None = None,
    gpu_bytes: int | None = None,
) -> list[list[str]]:
    """Contenders in groups whose workers fit into memory together, three at least.

    The baselines and bertrt, where asked for, are in every group.

    Args:
        names: of the contenders.
        checkpoint_bytes: of the model's weights, in float32.
        available_bytes: of this machine's memory; what is free now if None.
        gpu_bytes: of the memory of the GPU that all of them use, if any.
    """
    if available_bytes is None:
        available_bytes = _available()
    each = _LIBRARIES + _COPIES * checkpoint_bytes
    anchors = [name for name in names if name in _ANCHORS]
    rest = [name for name in names if name not in _ANCHORS]
    fitting = int(0.8 * available_bytes / each)
    if gpu_bytes is not None:
        fitting = min(fitting, int(0.8 * gpu_bytes / (_GPU_LIBRARIES + checkpoint_bytes)))
    size = max(fitting, 3, len(anchors) + 1)
    if len(names) <= size:
        return [list(names)]
    step = size - len(anchors)
    chosen = [{*anchors, *rest[start : start + step]} for start in range(0, len(rest), step)]
    return [[name for name in names if name in group] for group in chosen]


def _describe(process: Process) -> dict[str, Any]:
    described: dict[str, Any] = process.call("describe", timeout=120)
    if described["missing"]:
        raise Refused(described["missing"])
    return described


def _for_each(bench: Bench, names: Sequence[str], do: Callable[[str], None]) -> None:
    """As many at a time as there are threads: imports and exports use one each, mostly."""
    order = sorted(names, key=lambda name: _LONGEST.index(name) if name in _LONGEST else 99)
    with ThreadPoolExecutor(max_workers=bench.threads) as executor:
        list(executor.map(do, order))


def _read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.is_file() else None


def _available() -> int:
    """Bytes that this machine has free for new processes."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 8 << 30
