"""Mixed lengths without the tokenizer: batches of token ids, padded to their longest.

On a GPU, a corpus of texts would measure the tokenizer. Here all contenders get the same padded
batches (`LoadedModel.run`), with the lengths of the corpus; each handles the padding in its way.
"""

from collections.abc import Iterator, Sequence

from benchmarks.data.corpus import SEED, mixed_lengths
from benchmarks.data.inputs import Inputs, fixed_inputs
from benchmarks.data.models import TASKS, Model
from benchmarks.harness.config import BenchConfig
from benchmarks.harness.correctness import dismiss_wrong, reference_answers
from benchmarks.harness.passes import measure_passes
from benchmarks.harness.rows import Row, distinct
from benchmarks.harness.worker_pool import split_by_memory, worker_pool

__all__ = ["NAME", "TASKS", "batches", "measure"]

NAME = "ragged"

# (texts, batch size). Enough texts to fill a GPU; on a CPU more than a few batches take minutes.
_COUNTS = {"cpu": (128, 32), "cuda": (2048, 128)}


def measure(config: BenchConfig, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    """Measure texts per second; yield a row for each contender, timed or refused."""
    return distinct(_measure(config, model, task, names))


def batches(model: Model, count: int, size: int) -> list[Inputs]:
    """Return `count` texts of random ids in batches of `size`, not sorted by length."""
    lengths = mixed_lengths(count)
    return [
        fixed_inputs(model, lengths[start : start + size], seed=start)
        for start in range(0, count, size)
    ]


def _measure(config: BenchConfig, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    count, size = _COUNTS[config.device]
    arguments = {"batches": [tuple(inputs) for inputs in batches(model, count, size)]}
    key = b"".join(array.tobytes() for inputs in arguments["batches"] for array in inputs)
    weights = model.checkpoint(task) / "model.safetensors"
    for group in split_by_memory(names, weights.stat().st_size, gpu_bytes=config.gpu_bytes):
        expected = reference_answers(config, model, task, key, "run_each", **arguments)
        with worker_pool(config, model, task, group) as pool:
            config.report(f"  {model.name} {task} {count} texts in padded batches of {size}")
            errors = dismiss_wrong(pool, expected, f"to {count} texts", "run_each", **arguments)
            yield from measure_passes(
                config,
                pool,
                errors,
                workload=NAME,
                model=model,
                task=task,
                group=group,
                count=count,
                settings={"corpus_seed": SEED, "batch": size},
                verb="time_each",
                **arguments,
            )
