"""Mixed lengths without the tokenizer: batches of token ids as they come, padded to their longest.

On a GPU a corpus of texts measures the tokenizer. Here everyone is given the same padded batches
(`contender.run`), whose lengths are those of the corpus; what it makes of the padding is its own.
"""

from collections.abc import Iterator, Sequence

from bench import Bench
from corpus import SEED, mixed_lengths
from crew import crew, groups
from models import Model
from passes import measure_passes
from proof import expected_of, prove
from rows import Row, distinct
from texts import Inputs, fixed_inputs

__all__ = ["NAME", "TASKS", "measure"]

NAME = "ragged"
TASKS = ("embeddings", "classification", "fill-mask")

# As many as a GPU is full with; a CPU would take minutes for more than a few batches.
_COUNTS = {"cpu": (128, 32), "cuda": (2048, 128)}


def measure(bench: Bench, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    """Measure texts per second; a row for each contender, timed or refused."""
    return distinct(_measure(bench, model, task, names))


def batches(model: Model, count: int, size: int) -> list[Inputs]:
    """So many texts of random ids in batches of `size`, in no order of length."""
    lengths = mixed_lengths(count)
    return [
        fixed_inputs(model, lengths[start : start + size], seed=start)
        for start in range(0, count, size)
    ]


def _measure(bench: Bench, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    count, size = _COUNTS[bench.device]
    given = [tuple(one) for one in batches(model, count, size)]
    asked = b"".join(array.tobytes() for inputs in given for array in inputs)
    weights = model.checkpoint(task) / "model.safetensors"
    for group in groups(names, weights.stat().st_size, gpu_bytes=bench.gpu_bytes):
        expected = expected_of(bench, model, task, asked, "run_each", batches=given)
        with crew(bench, model, task, group) as running:
            bench.tell(f"  {model.name} {task} {count} texts in padded batches of {size}")
            errors = prove(running, expected, f"{count} texts", "run_each", batches=given)
            yield from measure_passes(
                bench,
                running,
                errors,
                workload=NAME,
                model=model,
                task=task,
                group=group,
                count=count,
                settings={"corpus_seed": SEED, "batch": size},
                verb="time_each",
                batches=given,
            )
