"""What a handler has besides its request: the models, the limits, and how to answer with them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bertrt.scheduling.answered import Answered
from bertrt.serving.cost import Cost, estimate
from bertrt.serving.errors import HttpError
from bertrt.serving.fields import check_count
from bertrt.serving.message import Request, Response, off_loop
from bertrt.serving.metrics import Metrics
from bertrt.serving.models import Model, Models
from bertrt.serving.options import Options
from bertrt.serving.side_thread import SideThread
from bertrt.serving.text_size import (
    bound_options,
    bound_texts,
    count_characters,
    most_characters,
)

__all__ = ["Answering", "Context", "Finished", "Limits"]

# How long an input takes to look at, as a number of bytes for `off_loop`.
_INPUT = 256


@dataclass(frozen=True)
class Limits:
    """How much one request may ask for.

    Attributes:
        inputs: the most inputs of a request.
        body: the most bytes of a body, before and after decompression.
        sequences: the most sequences of a request: texts times labels, windows, choices.
        response: about the most bytes of an answer.
        seconds: how long a request may wait.
        auto_truncate: whether a text that is too long is cut where a request does not say.
    """

    inputs: int = Options.max_inputs
    body: int = Options.max_body
    sequences: int = Options.max_sequences
    response: int = Options.max_response
    seconds: float = Options.request_timeout
    auto_truncate: bool = Options.auto_truncate


@dataclass
class Context:
    """The server's models and limits, and whether it takes requests.

    Attributes:
        models: what answers; none while they are loaded.
        limits: of a request.
        is_ready: whether new requests are welcome, which readiness probes see. Requests are
            answered while it is ready, and still while it drains.
        is_draining: whether the server is about to stop.
        metrics: what was counted.
        texts: a thread for texts that no model runs.
    """

    models: Models
    limits: Limits
    is_ready: bool = True
    is_draining: bool = False
    metrics: Metrics = field(default_factory=Metrics)
    texts: SideThread = field(default_factory=lambda: SideThread("bertrt-texts"))

    def __post_init__(self) -> None:
        self._count(self.models)

    @classmethod
    def loading(cls, names: Sequence[str], options: Options) -> "Context":
        """Return the context of a server whose models, of these names, are still to be loaded."""
        limits = Limits(
            inputs=options.max_inputs,
            body=options.max_body,
            sequences=options.max_sequences,
            response=options.max_response,
            seconds=options.request_timeout,
            auto_truncate=options.auto_truncate,
        )
        metrics = Metrics(with_tei=options.tei_metrics)
        metrics.expect(models=names)
        return cls(Models([]), limits, is_ready=False, metrics=metrics)

    def start(self, models: Models) -> None:
        """Answer with these models from now on."""
        self._count(models)
        self.models = models
        self.is_ready = True

    @property
    def is_alive(self) -> bool:
        """Whether every thread that answers for a model lives."""
        return all(model.batcher.load.alive for model in self.models)

    def _count(self, models: Models) -> None:
        self.metrics.expect(models=[model.name for model in models])
        for model in models:
            model.batcher.observe = self.metrics.observer(model.name)

    async def answer(
        self,
        request: Request,
        response: "Answering",
        model: Model,
        method: str,
        inputs: Sequence[Any],
        /,
        **options: Any,
    ) -> Any:
        """Answer a list of inputs, and note in `response` what it took.

        Raises HttpError for more inputs, sequences or bytes of the answer than a request may have,
        and for a text of more characters than are read where none is cut.
        """
        response.model = model
        check_count(len(inputs), self.limits.inputs)
        most = most_characters(model.runtime.tokenizer.max_length)

        def read() -> tuple[list[Any], int, Cost]:
            response.characters += sum(map(count_characters, inputs))
            bound_options(options, most)
            texts, cut = bound_texts(inputs, most, _side(model, options))
            return texts, cut, estimate(model, method, texts, options)

        texts, cut, cost = await off_loop(_INPUT * len(inputs) + len(request.body), read)
        if response.cost.sequences + cost.sequences > self.limits.sequences and cost.has_windows:
            # A text has fewer tokens than characters.
            cost = await self._count_windows(request, model, texts, options)
        self.check_cost(response, cost)
        answered = await model.answer(method, texts, request.deadline, **options)
        if cut > answered.truncated:
            # What was cut may have had too few tokens for the tokenizer to cut more.
            answered = replace(answered, truncated=cut)
        response.note(answered)
        self.metrics.answered(model.name, answered, len(inputs))
        return answered.answers

    def check_cost(self, response: "Answering", cost: Cost) -> None:
        """Add a cost to what a request has cost. Raises HttpError if it may not cost so much."""
        response.cost += cost
        for count, most, what in (
            (response.cost.sequences, self.limits.sequences, "sequences"),
            (response.cost.size, self.limits.response, "bytes of answer"),
        ):
            if count > most:
                raise HttpError(
                    413,
                    f"the request has about {count} {what}, and at most {most} are allowed: "
                    "ask for less at a time",
                )

    async def _count_windows(
        self, request: Request, model: Model, inputs: Sequence[Any], options: Mapping[str, Any]
    ) -> Cost:
        """Return what inputs cost, by the tokens that their texts have."""
        encode = model.runtime.tokenizer.encode_whole

        def count(item: Any) -> Cost:
            return estimate(
                model, "call", [item], options, lambda text: len(encode(text, special_tokens=False))
            )

        async with self.texts.admitted(request.deadline):
            return sum(await self.texts.map(count, inputs), Cost(0, 0))

    def truncation(self, truncate: bool | None) -> bool:
        """Return whether long texts are cut, given what a request says."""
        return self.limits.auto_truncate if truncate is None else truncate


def _side(model: Model, options: Mapping[str, Any]) -> str | None:
    """Return the side on which texts are cut; None where they are read whole or refused."""
    if not options.get("truncation") or options.get("stride") is not None:
        return None
    if model.task == "text-generation":
        # Its answers begin with the text.
        return None
    side = options.get("truncation_side")
    return side if isinstance(side, str) else model.runtime.tokenizer.facts.truncation_side


class Answering:
    """What the inputs of one request took, for the headers of its answer."""

    def __init__(self) -> None:
        self.model: Model | None = None
        self.cost = Cost(0, 0)
        self.characters = 0
        self.tokens = 0
        self.truncated = 0
        self.tokenization = self.queue = self.inference = 0.0
        # By `time.perf_counter`; 0 without inputs.
        self.answered_at = 0.0

    def note(self, answered: Answered) -> None:
        """Add what some inputs took."""
        self.tokens += answered.tokens
        self.truncated += answered.truncated
        self.tokenization += answered.tokenization
        self.queue += answered.queue
        self.inference += answered.inference
        self.answered_at = time.perf_counter()

    def add_headers(self, response: Response, seconds: float) -> None:
        """Add the times in milliseconds, by the names of Text Embeddings Inference."""
        if self.model is None or not self.tokens:
            return
        device = self.model.artifact.manifest.target["device"]
        times = {
            "x-total-time": seconds,
            "x-compute-time": self.tokenization + self.inference,
            "x-tokenization-time": self.tokenization,
            "x-queue-time": self.queue,
            "x-inference-time": self.inference,
        }
        response.headers |= {
            "x-compute-type": "gpu" if device == "cuda" else "cpu",
            "x-compute-characters": str(self.characters),
            "x-compute-tokens": str(self.tokens),
            **{name: str(round(1000 * value)) for name, value in times.items()},
        }
        if self.truncated:
            response.headers["x-bertrt-truncated"] = str(self.truncated)


@dataclass(frozen=True)
class Finished:
    """A request that has been answered, for those who watch.

    Attributes:
        method, headers: as they came.
        route: the template of its path, or `metrics.NO_ROUTE`.
        status: of its answer.
        answering: its model, and what its inputs took.
        started: when its head was there, by `time.perf_counter`.
        seconds: from then until its answer.
    """

    method: str
    headers: Mapping[str, str]
    route: str
    status: int
    answering: Answering
    started: float
    seconds: float
