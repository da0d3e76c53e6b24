"""The base class of heads: from inputs to encodings, and from the graph's outputs to answers.

A head knows neither sessions nor files. It has a tokenizer and a config, and is given a
`GraphRunner` when it answers.
"""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate
from typing import Any, ClassVar

from bertrt.artifact.model_config import ModelConfig
from bertrt.errors import InputError, shorten
from bertrt.heads.request import Answer, GraphRunner, HeadRequest, SampleOutputs
from bertrt.tokenizer import Encoding, Text, Tokenizer

__all__ = [
    "Head",
    "Options",
    "Prepared",
    "TextHead",
    "TextPair",
]


@dataclass(frozen=True, kw_only=True)
class Options:
    """A head's options. A subclass checks its own in `__post_init__`.

    `truncation` is False (an over-long text is an InputError) or True, "longest_first",
    "only_first" or "only_second"; `max_length` is in tokens, the model's own length when None.
    """

    truncation: bool | str = False
    max_length: int | None = None


@dataclass(frozen=True)
class Prepared:
    """One input as encodings, and whatever `finish` needs to know about it."""

    encodings: Sequence[Encoding]
    context: Any = None


class Head(ABC):
    """One task: its inputs, its options, and how outputs become answers."""

    task: ClassVar[str]
    options: ClassVar[type[Options]] = Options
    # Whose outputs `finish` reads: see `GraphRunner.run_encodings`.
    tokens: ClassVar[str] = "all"
    # Keyword arguments of a call that are inputs, not options.
    input_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, tokenizer: Tokenizer, config: ModelConfig) -> None:
        self.tokenizer = tokenizer
        self.config = config

    @abstractmethod
    def read_inputs(self, *args: Any, **named: Any) -> tuple[list[Any], bool]:
        """Split a call's arguments into inputs; the flag says that there was a single one.

        `named` holds the keywords listed in `input_names`. Raises InputError for arguments in a
        form that this head does not take.
        """

    @abstractmethod
    def prepare(self, input: Any, options: Any) -> Prepared:
        """Encode one input."""

    @abstractmethod
    def finish(self, prepared: Prepared, samples: Sequence[SampleOutputs], options: Any) -> Answer:
        """Make an input's answer from the outputs of its encodings; plain Python, JSON-ready."""

    def build_request(self, input: Any, runner: GraphRunner, options: Any) -> HeadRequest:
        """Build the request of one input; nothing runs yet."""
        prepared = self.prepare(input, options)

        def finish(samples: Sequence[SampleOutputs]) -> Answer:
            return self.finish(prepared, samples, options)

        return HeadRequest(prepared.encodings, finish, tokens=self.tokens)

    def answer(self, inputs: Sequence[Any], runner: GraphRunner, options: Any) -> list[Answer]:
        """Answer many inputs, their encodings batched together."""
        requests = [self.build_request(input, runner, options) for input in inputs]
        owners = [i for i, request in enumerate(requests) for _ in request.encodings]
        starts = [0, *accumulate(len(request.encodings) for request in requests)]
        encodings = [encoding for request in requests for encoding in request.encodings]
        arrived: dict[int, dict[int, SampleOutputs]] = {}
        answers: list[Answer] = [None] * len(requests)
        for index, outputs in runner.run_encodings(encodings, tokens=self.tokens):
            owner = owners[index]
            samples = arrived.setdefault(owner, {})
            samples[index - starts[owner]] = outputs
            if len(samples) == len(requests[owner].encodings):
                answers[owner] = requests[owner].finish([samples[i] for i in sorted(samples)])
                del arrived[owner]
        return answers

    def unwrap(self, answer: Answer, input: Any, given: Mapping[str, Any]) -> Answer:
        """Return the answer to a call with a single input; transformers wraps some in a list."""
        return answer

    def parse_options(self, given: Mapping[str, Any], options: type[Options] | None = None) -> Any:
        """Parse the options of a call into the head's options class, or another one.

        Raises InputError for an unknown option or a wrong value.
        """
        options = options or self.options
        known = [field.name for field in fields(options)]
        for name in given:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}"
                raise InputError(f"{self.task} has no option {name!r}: {hint}")
        return options(**given)


@dataclass(frozen=True)
class TextPair:
    """A text, the second text of a pair, and whether the caller gave them as a dict."""

    text: Text
    pair: Text | None = None
    from_dict: bool = False


class TextHead(Head):
    """A head whose input is a text or a pair of texts."""

    def read_inputs(self, *args: Any, **named: Any) -> tuple[list[TextPair], bool]:
        """`"A"`, `["A", "B"]`, `"A", "B"` (a pair), `("A", "B")`, `{"text": …, "text_pair": …}`."""
        if len(args) == 2 and all(isinstance(one, str) for one in args):
            return [TextPair(*args)], True
        if len(args) != 1:
            raise InputError(
                f"{self.task} got {len(args)} inputs: give one text, a pair of texts, or a list"
            )
        if isinstance(args[0], list):
            if not args[0]:
                raise InputError("the list of texts is empty: give at least one text")
            return [_text_pair(one) for one in args[0]], False
        return [_text_pair(args[0])], True


def _text_pair(value: Any) -> TextPair:
    if isinstance(value, str):
        return TextPair(value)
    if isinstance(value, tuple) and len(value) == 2 and all(isinstance(v, str) for v in value):
        return TextPair(*value)
    if isinstance(value, dict) and "text" in value and set(value) <= {"text", "text_pair"}:
        for name, part in value.items():
            if not (isinstance(part, str) or (name == "text_pair" and part is None)):
                raise InputError(f"{name} is {shorten(part)}: give a string")
        return TextPair(value["text"], value.get("text_pair"), from_dict=True)
    raise InputError(
        f"an input is {type(value).__name__} ({shorten(value)}): give a string, a pair "
        "('A', 'B'), or {'text': …, 'text_pair': …}"
    )
