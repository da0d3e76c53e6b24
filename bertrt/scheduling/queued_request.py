"""A request of the dynamic batcher: its parts, what they have answered, and its Future."""

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from bertrt.heads.request import Answer, HeadRequest, SampleOutputs
from bertrt.scheduling.answered import Answered
from bertrt.tokens import Tokens

__all__ = ["QueuedRequest", "RequestPart"]


class QueuedRequest:
    """One or many inputs that were asked for together.

    It is accepted with the number of its inputs, encoded, and then run part by part. `RequestQueue`
    guards everything here but the Future.

    Attributes:
        size: the number of inputs.
        future: the result.
        deadline: the `time.monotonic()` by which all parts must have started; None for none.
        bounded: whether it has to fit into the queue.
        waiting: the parts that have not started, longest first.
        tokens: the tokens of all parts.
        outputs, output_tokens: what all parts need, as in `GraphRunner.run_encodings`.
        generates: whether its inputs run themselves, which takes many runs of the graph.
        ended: whether it was answered, failed or dropped. Whoever sets this sets the Future.
    """

    def __init__(
        self,
        size: int,
        finish: Callable[["QueuedRequest"], Any],
        run_batch: Callable[..., Sequence[SampleOutputs]],
        *,
        deadline: float | None = None,
        bounded: bool = True,
    ) -> None:
        """Accept a request.

        Args:
            size: the number of inputs.
            finish: makes the result from the request, when `answers` is complete.
            run_batch: runs encodings as one batch. It comes with each request so that an idle
                worker holds no runtime, which can then be freed.
            deadline, bounded: see the attributes.
        """
        self.size = size
        self.run_batch = run_batch
        self.future: Future[Any] = Future()
        self.deadline = deadline
        self.bounded = bounded
        self.waiting: OrderedDict[RequestPart, None] = OrderedDict()
        self.tokens = 0
        self.ended = False
        self.answers: list[Answer] = [None] * size
        self._finish = finish
        self._requests: list[HeadRequest | None] = []
        self._truncated = [False] * size
        self._samples: dict[int, list[SampleOutputs | None]] = {}
        self._missing = size
        self._accepted = time.perf_counter()
        self._began = 0.0
        self._tokenization = 0.0
        self.outputs: tuple[str, ...] | None = None
        self.output_tokens = "all"
        self.generates = False

    def fill(self, requests: Sequence[HeadRequest], tokenization: float) -> None:
        """Take the encoded inputs, which took so many seconds to encode."""
        self._requests = [*requests]
        self._tokenization = tokenization
        # Texts of one call may differ in the outputs that they need; each finds its own in all.
        names = {name for request in requests for name in request.outputs or ()}
        self.outputs = tuple(sorted(names)) or None
        tokens = {request.tokens for request in requests}
        self.output_tokens = tokens.pop() if len(tokens) == 1 else "all"
        self.generates = any(request.runs_itself for request in requests)
        parts: list[RequestPart] = []
        for index, request in enumerate(requests):
            encodings = request.encodings
            lengths = [len(encoding.ids) for encoding in encodings]
            if request.runs_itself or not encodings:
                parts.append(RequestPart(self, index, 0, None, sum(lengths)))
                continue
            self._samples[index] = [None] * len(encodings)
            parts += [
                RequestPart(self, index, position, encoding, length)
                for position, (encoding, length) in enumerate(zip(encodings, lengths, strict=True))
            ]
        # The longest first, so that workers end at about the same time.
        parts.sort(key=lambda part: part.length, reverse=True)
        self.waiting = OrderedDict.fromkeys(parts)
        self.tokens = sum(part.length for part in parts)

    def begin(self) -> None:
        """Note that a part starts; the first one counts."""
        self._began = self._began or time.perf_counter()

    def store(self, part: "RequestPart", outputs: SampleOutputs) -> list[Any] | None:
        """Store a part's outputs; return those of its input when they are complete."""
        samples = self._samples[part.input]
        samples[part.position] = outputs
        if any(sample is None for sample in samples):
            return None
        # Outputs are views of whole batches, and the other inputs may take long.
        return self._samples.pop(part.input)

    def answer(self, input: int, samples: Sequence[SampleOutputs]) -> Answer:
        """Return one input's answer, once; it may run the graph itself, and raise anything.

        Its encodings are freed: all of them at the end would take long, in the event loop.
        """
        request = self._requests[input]
        assert request is not None
        self._requests[input] = None
        self._truncated[input] = request.truncated
        return request.finish(samples)

    def store_answer(self, input: int, answer: Answer) -> bool:
        """Store one input's answer; return whether all are there."""
        self.answers[input] = answer
        self._missing -= 1
        return not self._missing

    def finish(self) -> None:
        """Set the Future to the result, when all answers are there."""
        try:
            result = self._finish(self)
        except BaseException as error:  # a panic of the tokenizer is not an Exception
            self.future.set_exception(error)
        else:
            self.future.set_result(result)

    def describe(self, answers: Any) -> Answered:
        """Return the answers to all inputs, with what they took until now."""
        now = time.perf_counter()
        began = self._began or now
        return Answered(
            answers,
            tokens=self.tokens,
            truncated=sum(self._truncated),
            tokenization=self._tokenization,
            queue=max(0.0, began - self._accepted - self._tokenization),
            inference=now - began,
        )


@dataclass(frozen=True, eq=False, slots=True)
class RequestPart:
    """What a request runs at a time: an encoding in a batch, or an input that runs itself.

    Attributes:
        request: the request.
        input: the input's index among the request's.
        position: the encoding's index among the input's.
        encoding: the encoding; None for an input that runs itself, in its `finish`.
        length: the length in tokens.
    """

    request: QueuedRequest
    input: int
    position: int
    encoding: Tokens | None
    length: int
