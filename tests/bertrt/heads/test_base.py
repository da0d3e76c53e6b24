"""`Head.answer`: outputs may come in any order, and are freed as soon as possible."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bertrt.heads.base import Head, Options, Prepared
from bertrt.heads.request import Answer, SampleOutputs


class EchoHead(Head):
    """Inputs are lists of numbers, each of which is an encoding; the answer lists its outputs."""

    task = "echo"

    def read_inputs(self, *args: Any, **named: Any) -> tuple[list[Any], bool]:
        return list(args), False

    def prepare(self, input: Any, options: Any) -> Prepared:
        return Prepared(input)

    def finish(self, prepared: Prepared, samples: Sequence[SampleOutputs], options: Any) -> Answer:
        finished.append(list(prepared.encodings))
        return [int(sample["logits"]) for sample in samples]


finished: list[Any] = []


class ShuffledRunner:
    """Runs encodings in a fixed order; records how many inputs were finished before each."""

    def __init__(self, order: Sequence[int]) -> None:
        self.order = order
        self.finished_before: list[int] = []

    def run_encodings(
        self, encodings: Sequence[Any], **_: Any
    ) -> Iterator[tuple[int, SampleOutputs]]:
        for index in self.order:
            self.finished_before.append(len(finished))
            yield index, {"logits": np.array(encodings[index])}

    def run(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        raise AssertionError("heads of this kind run encodings only")


def test_outputs_in_any_order() -> None:
    finished.clear()
    head = EchoHead(None, None)  # type: ignore[arg-type]
    runner = ShuffledRunner([4, 1, 5, 0, 3, 2])
    inputs = [[10, 11], [12], [13, 14, 15]]
    assert head.answer(inputs, runner, Options()) == inputs
    assert finished == [[10, 11], [13, 14, 15], [12]]
    assert runner.finished_before == [0, 0, 0, 0, 1, 2]
