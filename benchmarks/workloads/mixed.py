"""Mixed lengths: a whole corpus at once, through whatever batches a contender makes of it.

The corpus has short texts and a long tail, as real ones do (`corpus.py`). Padding is what it
costs to put them together carelessly; everyone tokenizes and pads inside the time.
"""

from collections.abc import Iterator, Sequence

from bench import Bench
from corpus import SEED, mixed
from crew import Crew, crew, groups
from models import Model
from passes import measure_passes
from proof import expected_answers, prove
from rows import Row, distinct

__all__ = ["NAME", "TASKS", "measure"]

NAME = "mixed"
TASKS = ("embeddings", "classification", "fill-mask")

_COUNT = 256
# A longer corpus sorts into more even batches; on larger models it takes too long.
_LONG_COUNT = 1024
_LONG_MODELS = ("minilm",)


def counts(model: Model, quick: bool) -> list[int]:
    """How many texts the corpora have that a model is measured with."""
    return [_COUNT, _LONG_COUNT] if model.name in _LONG_MODELS and not quick else [_COUNT]


def measure(bench: Bench, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    """Measure texts per second; a row for each contender and corpus, timed or refused."""
    return distinct(_measure(bench, model, task, names))


def _measure(bench: Bench, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    weights = model.checkpoint(task) / "model.safetensors"
    for group in groups(names, weights.stat().st_size, gpu_bytes=bench.gpu_bytes):
        with crew(bench, model, task, group) as running:
            for count in counts(model, bench.quick):
                yield from _measure_corpus(bench, model, task, group, running, count)


def _measure_corpus(
    bench: Bench, model: Model, task: str, group: Sequence[str], running: Crew, count: int
) -> Iterator[Row]:
    bench.tell(f"  {model.name} {task} {count} texts of mixed lengths")
    texts = mixed(count, mask=task == "fill-mask")
    expected = expected_answers(bench, model, task, texts)
    errors = prove(running, expected, f"{count} texts", "answer", texts=texts)
    yield from measure_passes(
        bench,
        running,
        errors,
        workload=NAME,
        model=model,
        task=task,
        group=group,
        count=count,
        settings={"corpus_seed": SEED},
        verb="time_answer",
        texts=texts,
    )
