"""Fixed shapes: one batch of token ids without padding, repeated; the usual latency benchmark."""

from collections.abc import Iterator, Sequence

import numpy as np

from benchmarks.contenders.registry import REFERENCE
from benchmarks.data.inputs import RAGGED, Inputs, fixed_inputs
from benchmarks.data.models import TEXT_TASKS, Model
from benchmarks.harness.config import BenchConfig
from benchmarks.harness.correctness import Errors, cached_reference, dismiss_wrong
from benchmarks.harness.rows import Row, distinct
from benchmarks.harness.turns import measure_turns
from benchmarks.harness.worker_pool import WorkerPool, split_by_memory, worker_pool
from benchmarks.harness.worker_process import RefusedError

__all__ = ["NAME", "SHAPES", "TASKS", "measure"]

NAME = "fixed"
TASKS = TEXT_TASKS

SHAPES = ((1, 8), (1, 32), (1, 128), (1, 512), (8, 128), (32, 128))
_GPU_SHAPES = ((1, 16), (1, 128), (8, 128), (32, 128), (128, 128), (1, 512))
_QUICK_SHAPES = ((1, 32), (1, 128), (8, 128))
# A large model is limited by memory traffic; a quick run measures a larger one at one shape only.
_ONE_SHAPE = ((1, 128),)

Shape = tuple[int, int]


def shapes(model: Model, quick: bool, device: str = "cpu") -> Sequence[Shape]:
    """Return the (batch, sequence) shapes at which a model is measured."""
    if device == "cuda":
        return _QUICK_SHAPES if quick else _GPU_SHAPES
    if model.name == "bert-large" or (quick and model.name == "bert-base"):
        return _ONE_SHAPE
    return _QUICK_SHAPES if quick else SHAPES


def measure(config: BenchConfig, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    """Measure these contenders at every shape; yield a row for each, timed or refused."""
    return distinct(_measure(config, model, task, names))


def _measure(config: BenchConfig, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    weights = model.checkpoint(task) / "model.safetensors"
    for group in split_by_memory(names, weights.stat().st_size, gpu_bytes=config.gpu_bytes):
        # The reference answers even if it is not timed.
        started = list(dict.fromkeys([REFERENCE, *group]))
        with worker_pool(config, model, task, started) as pool:
            yield from _measure_group(config, model, task, group, pool)


def _measure_group(
    config: BenchConfig, model: Model, task: str, group: Sequence[str], pool: WorkerPool
) -> Iterator[Row]:
    errors = _check(config, model, task, pool, fixed_inputs(model, RAGGED))
    for batch, sequence in shapes(model, config.quick, config.device):
        shape = f"{batch}x{sequence}"
        config.report(f"  {model.name} {task} {shape}")
        inputs = fixed_inputs(model, [sequence] * batch)
        errors |= _check(config, model, task, pool, inputs)
        yield from measure_turns(
            config,
            pool,
            errors,
            workload=NAME,
            model=model,
            task=task,
            group=group,
            shape=shape,
            verb="time_run",
            inputs=tuple(inputs),
        )


def _check(
    config: BenchConfig, model: Model, task: str, pool: WorkerPool, inputs: Inputs
) -> Errors:
    """Dismiss the workers that fail or give wrong answers; return the errors of the answers."""
    key = b"".join(array.tobytes() for array in inputs)

    def compute() -> np.ndarray:
        return np.asarray(pool.call(REFERENCE, "run", inputs=tuple(inputs)))

    try:
        expected = cached_reference(config, model, task, key, compute)
    except RefusedError as error:
        for name in list(pool.workers):
            pool.dismiss(name, f"there is no reference to check it against: {error}")
        return {}
    shape = "x".join(str(size) for size in inputs.input_ids.shape)
    return dismiss_wrong(pool, expected, f"at {shape}", "run", inputs=tuple(inputs))
