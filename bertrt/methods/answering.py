"""Answer the inputs of a parsed call: all at once, or those of an iterator chunk by chunk."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from bertrt.errors import InputError, shorten
from bertrt.heads.calls import Call, CallParser
from bertrt.heads.request import Answer, HeadRequest
from bertrt.heads.run_requests import run_requests
from bertrt.progress import ProgressCallback, ProgressRunner, report_inputs
from bertrt.scheduling.batch_runner import BatchRunner

__all__ = ["Answering", "Outcome"]

# Inputs of an iterator that are answered together: enough to sort well, few enough to hold.
_CHUNK = 1024


@dataclass(frozen=True)
class Outcome:
    """What became of one input of `answer_each`.

    Attributes:
        answer: its answer, as in the list that the runtime answers; None without one.
        truncated: whether a part of the input was cut off.
        error: why it has no answer; None if it has one.
    """

    answer: Any = None
    truncated: bool = False
    error: InputError | None = None


class Answering:
    """What the methods of a runtime that answer share: a parser of calls, and a runner."""

    _calls: CallParser
    _runner: BatchRunner

    def answer_each(self, method: str, inputs: Sequence[Any], /, **options: Any) -> list[Outcome]:
        """Answer a list of which some inputs may be wrong: each gets an answer, or its own error.

        The inputs are batched together, as in a call with the list.

        Args:
            method: "call" for a call of the runtime, "embed", "embed_sparse", "embed_tokens" or
                "score".
            inputs: the inputs; none check the options.
            options: the method's. An answer does not depend on the other inputs, so `precision`
                int8 and uint8 need `ranges`.

        Raises InputError for an option that cannot be used, whatever the input.
        """
        call = self._calls.parse_method(method, options, streamed=True)
        requests: list[HeadRequest] = []
        outcomes: list[Outcome | None] = []
        for input in inputs:
            try:
                (item,), _ = call.read([input])
                requests.append(call.request(item, self._runner))
                outcomes.append(None)
            except InputError as error:
                outcomes.append(Outcome(error=error))
        answers = iter(call.join(run_requests(requests, self._runner)) if requests else ())
        requested = iter(requests)
        return [
            Outcome(next(answers), next(requested).truncated) if outcome is None else outcome
            for outcome in outcomes
        ]

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
