"""Fixed shapes: one batch of ids without padding, over and over; the usual latency benchmark."""

import os
import time
from collections.abc import Iterator, Sequence

import numpy as np

from bench import Bench
from contender import REFERENCE
from crew import Crew, crew, groups
from gate import Verdict, check
from models import Model
from process import Refused
from reference import kept
from rounds import rotations, speedups, summary
from rows import Row, distinct, refused, timed
from texts import RAGGED, Inputs, fixed_inputs

__all__ = ["NAME", "TASKS", "measure"]

NAME = "fixed"
TASKS = ("embeddings", "classification", "fill-mask")

SHAPES = ((1, 8), (1, 32), (1, 128), (1, 512), (8, 128), (32, 128))
_GPU_SHAPES = ((1, 16), (1, 128), (8, 128), (32, 128), (128, 128), (1, 512))
_QUICK_SHAPES = ((1, 32), (1, 128), (8, 128))
# A large model for its memory traffic; and a larger one in minutes, by what matters most.
_ONE_SHAPE = ((1, 128),)
_LEAST_ROUNDS = 3
# ONNX Runtime's threads spin for 25 ms after a run, and would take that time from the next.
_PAUSE = 0.05
# A slower call than this needs no untimed one before it.
_SLOW = 0.3

Shape = tuple[int, int]


def shapes(model: Model, quick: bool, device: str = "cpu") -> Sequence[Shape]:
    """The batch and sequence of each shape that a model is measured at."""
    if device == "cuda":
        return _QUICK_SHAPES if quick else _GPU_SHAPES
    if model.name == "bert-large" or (quick and model.name == "bert-base"):
        return _ONE_SHAPE
    return _QUICK_SHAPES if quick else SHAPES


def measure(bench: Bench, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    """Measure these contenders at every shape; a row for each, timed or refused."""
    return distinct(_measure(bench, model, task, names))


def _measure(bench: Bench, model: Model, task: str, names: Sequence[str]) -> Iterator[Row]:
    weights = model.checkpoint(task) / "model.safetensors"
    for group in groups(names, weights.stat().st_size, gpu_bytes=bench.gpu_bytes):
        # The reference answers even where it is not timed.
        with crew(bench, model, task, list(dict.fromkeys([REFERENCE, *group]))) as running:
            yield from _measure_group(bench, model, task, group, running)


def _measure_group(
    bench: Bench, model: Model, task: str, group: Sequence[str], running: Crew
) -> Iterator[Row]:
    errors: dict[str, dict[str, float]] = {}
    _prove(bench, model, task, running, fixed_inputs(model, RAGGED), errors)
    for batch, sequence in shapes(model, bench.quick, bench.device):
        shape = f"{batch}x{sequence}"
        bench.tell(f"  {model.name} {task} {shape}")
        inputs = fixed_inputs(model, [sequence] * batch)
        _prove(bench, model, task, running, inputs, errors)
        # Of the minute before: how much else the machine had to do.
        load = round(os.getloadavg()[0], 2)
        times = _rounds(bench, running, [n for n in group if n in running.workers], inputs)
        for name in group:
            if name in times:
                yield timed(
                    NAME,
                    model,
                    task,
                    name,
                    shape=shape,
                    versions=running.described[name]["versions"],
                    error=errors[name],
                    speedup=speedups(times, name),
                    settings={"threads": bench.threads, "turn_s": bench.turn, "load": load},
                    **summary(times[name]),
                )
            else:
                reason = running.refused[name]
                yield refused(
                    NAME, model, task, name, reason, shape=shape, error=errors.get(name, {})
                )


def _prove(
    bench: Bench,
    model: Model,
    task: str,
    running: Crew,
    inputs: Inputs,
    errors: dict[str, dict[str, float]],
) -> None:
    """Let everyone answer; who is wrong or fails leaves the crew. `errors` gets each error."""
    asked = b"".join(array.tobytes() for array in inputs)
    try:
        expected = kept(bench, model, task, asked, lambda: _answers(running, REFERENCE, inputs))
    except Refused as reason:
        for name in list(running.workers):
            running.dismiss(name, f"there is no reference to prove it by: {reason}")
        return
    for name in list(running.workers):
        try:
            verdict = _verdict(running, name, inputs, expected)
        except Refused:
            continue
        errors[name] = verdict.error
        if verdict.wrong:
            running.dismiss(name, f"wrong answer at {_shape(inputs)}: {verdict.wrong}")


def _answers(running: Crew, name: str, inputs: Inputs) -> np.ndarray:
    return np.asarray(running.call(name, "run", inputs=tuple(inputs)))


def _verdict(running: Crew, name: str, inputs: Inputs, expected: np.ndarray) -> Verdict:
    answers = _answers(running, name, inputs)
    return check(answers, expected, running.described[name]["precision"])


def _rounds(
    bench: Bench, running: Crew, names: Sequence[str], inputs: Inputs
) -> dict[str, list[float]]:
    """Seconds of each round, of those who stayed to the end."""
    times: dict[str, list[float]] = {name: [] for name in names}
    began = time.perf_counter()
    for done, order in enumerate(rotations(names, bench.rounds)):
        if done >= _LEAST_ROUNDS and time.perf_counter() - began > bench.seconds:
            break
        for name in order:
            if name not in times:
                continue
            warm = not times[name] or times[name][-1] < _SLOW
            try:
                calls = running.call(
                    name, "time_run", inputs=tuple(inputs), seconds=bench.turn, warm=warm
                )
                times[name].append(float(np.median(calls)))
            except Refused:
                del times[name]
            time.sleep(_PAUSE)
    return times


def _shape(inputs: Inputs) -> str:
    return "x".join(str(size) for size in inputs.input_ids.shape)
