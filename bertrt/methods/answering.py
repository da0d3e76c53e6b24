"""Answer the inputs of a parsed call: all at once, or those of an iterator chunk by chunk."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from bertrt.errors import InputError, shorten
from bertrt.heads.calls import Call, CallParser
from bertrt.heads.request import Answer
from bertrt.progress import ProgressCallback, ProgressRunner, report_inputs
from bertrt.scheduling.batch_runner import BatchRunner

__all__ = ["Answering"]

# Inputs of an iterator that are answered together: enough to sort well, few enough to hold.
_CHUNK = 1024


class Answering:
    """What the methods of a runtime that answer share: a parser of calls, and a runner."""

    _calls: CallParser
    _runner: BatchRunner

    def _answer(
        self, call: Call, inputs: tuple[Any, ...], progress: bool | ProgressCallback
    ) -> Answer:
        """Answer a parsed call's inputs."""
        if len(inputs) == 1 and isinstance(inputs[0], Iterator):
            return self._answer_in_chunks(call, inputs[0], progress)
        items, single = call.read(*inputs)
        total = len(items)
        with report_inputs(progress) as report:
            runner = ProgressRunner(self._runner, total, lambda done: report(done, total))
            answers = call.answer(items, runner)
            report(total, total)
        return call.unwrap(answers[0], items[0]) if single else answers

    def _answer_in_chunks(
        self, call: Call, inputs: Iterator[Any], progress: bool | ProgressCallback
    ) -> Iterator[Answer]:
        """Answer an iterator's inputs, holding one chunk of them at a time."""
        before = 0
        with report_inputs(progress) as report:

            def report_chunk(done: int) -> None:
                report(before + done, None)

            while chunk := list(islice(inputs, _CHUNK)):
                items, _ = call.read(chunk)
                if len(items) != len(chunk):
                    raise InputError(
                        f"the iterator's inputs are {shorten(chunk[0])}, which together would be "
                        "one input: give each as a list of words"
                    )
                runner = ProgressRunner(self._runner, len(chunk), report_chunk)
                answers = call.answer(items, runner)
                before += len(chunk)
                report(before, None)
                yield from answers
