"""Mixed lengths: a whole corpus at once, through whatever batches a contender makes of it.

The corpus has short texts and a long tail, as real ones do (`corpus.py`). Padding is what it
costs to put them together carelessly; everyone tokenizes and pads inside the time.
"""

import time
from collections.abc import Iterator, Sequence

import numpy as np

from bench import Bench
from corpus import SEED, mixed
from crew import Crew, crew, groups
from models import Model
from process import Refused
from proof import expected_answers, prove
from rounds import rotations, speedups
from rows import Row, distinct, refused, timed

__all__ = ["NAME", "TASKS", "measure"]

NAME = "mixed"
TASKS = ("embeddings", "classification", "fill-mask")

_COUNT = 256
# A longer corpus sorts into more even batches; on larger models it takes too long.
_LONG_COUNT = 1024
_LONG_MODELS = ("minilm",)
_LEAST_PASSES = 3
# So that threads which still spin after their turn do not take time from the next.
_PAUSE = 0.1


def counts(model: Model, quick: bool) -> list[int]:
    """How many texts the corpora have that a model is measured with."""
    return [_COUNT, _LONG_COUNT] if model.name in _LONG_MODELS and not quick else [_COUNT]


def measure(bench: Bench, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    """Measure texts per second; a row for each contender and corpus, timed or refused.

    A row's `speedup` is of the time of a pass.
    """
    return distinct(_measure(bench, model, task, names))


def _measure(bench: Bench, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    weights = model.checkpoint(task) / "model.safetensors"
    for group in groups(names, weights.stat().st_size):
        with crew(bench, model, task, group) as running:
            for count in counts(model, bench.quick):
                yield from _measure_corpus(bench, model, task, group, running, count)


def _measure_corpus(
    bench: Bench, model: Model, task: str, group: Sequence[str], running: Crew, count: int
) -> Iterator[Row]:
    bench.tell(f"  {model.name} {task} {count} texts of mixed lengths")
    texts = mixed(count, mask=task == "fill-mask")
    errors = prove(running, texts, expected_answers(bench, model, task, texts))
    times = _passes(bench, running, texts)
    shape = f"{count} texts"
    for name in group:
        if name not in times:
            reason = running.refused[name]
            error = errors.get(name, {})
            yield refused(NAME, model, task, name, reason, shape=shape, error=error)
            continue
        low, median, high = np.percentile(count / np.array(times[name]), (20, 50, 80))
        yield timed(
            NAME,
            model,
            task,
            name,
            shape=shape,
            versions=running.described[name]["versions"],
            error=errors[name],
            metric="texts_per_s",
            median=float(median),
            p20=float(low),
            p80=float(high),
            n=len(times[name]),
            speedup=speedups(times, name),
            settings={"threads": bench.threads, "corpus_seed": SEED},
        )


def _passes(bench: Bench, running: Crew, texts: list[str]) -> dict[str, list[float]]:
    """Seconds of each pass over the texts, of those who stayed to the end."""
    times: dict[str, list[float]] = {name: [] for name in running.workers}
    began = time.perf_counter()
    for done, order in enumerate(rotations(list(times), bench.rounds)):
        if done >= _LEAST_PASSES and time.perf_counter() - began > bench.seconds:
            break
        for name in order:
            if name not in times:
                continue
            try:
                # A pass is long, and the proof was one: no call before it to warm up.
                calls = running.call(name, "time_answer", texts=texts, seconds=0, warm=False)
                times[name].append(calls[0])
            except Refused:
                del times[name]
            time.sleep(_PAUSE)
    return times
