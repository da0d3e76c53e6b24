"""The base classes of heads, which encode inputs and turn the graph's outputs into answers.

A head knows neither sessions nor files. It has a tokenizer and a config, and receives a
`GraphRunner` when it answers.
"""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from bertrt.artifact.manifest import TaskFacts
from bertrt.artifact.model_config import ModelConfig
from bertrt.errors import InputError, shorten
from bertrt.heads.request import Answer, GraphRunner, HeadRequest, SampleOutputs
from bertrt.heads.run_requests import run_requests
from bertrt.tokenizer import Encoding, Text, Tokenizer

__all__ = [
    "Head",
    "Options",
    "Prepared",
    "TextHead",
    "TextPair",
    "TokenIds",
    "parse_text_pair",
]


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options that every head has. Subclasses add their own and check them in `__post_init__`.

    Attributes:
        truncation: False makes a text that is too long an InputError; True, "longest_first",
            "only_first" and "only_second" truncate it.
        max_length: the maximum length in tokens; the model's when None.
        truncation_side: the side that truncation cuts, "left" or "right"; the tokenizer's own when
            None.
    """

    truncation: bool | str = False
    max_length: int | None = None
    truncation_side: str | None = None


@dataclass(frozen=True)
class Prepared:
    """The encodings of one input, and what else `finish` needs to know about it.

    Attributes:
        encodings: the encodings.
        context: what else `finish` needs.
        windows: the encodings are the windows of one text, which together leave nothing out.
    """

    encodings: Sequence[Encoding]
    context: Any = None
    windows: bool = False


class Head(ABC):
    """A task: its inputs, its options, and how the graph's outputs become answers."""

    task: ClassVar[str]
    options_class: ClassVar[type[Options]] = Options
    # The tokens whose outputs `finish` reads: see `GraphRunner.run_encodings`.
    tokens: ClassVar[str] = "all"
    # The keyword arguments of a call that are inputs, not options.
    input_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, tokenizer: Tokenizer, config: ModelConfig) -> None:
        self.tokenizer = tokenizer
        self.config = config

    def take_facts(  # noqa: B027 (most heads need none)
        self, facts: TaskFacts | None, arrays: Mapping[str, np.ndarray]
    ) -> None:
        """Take what the manifest says about the task, once, before anything else.

        Args:
            facts: the task's own section; None if there is none.
            arrays: the arrays that it names, by their files' names.

        Raises ArtifactError if the head needs more.
        """

    @abstractmethod
    def read_inputs(self, *args: Any, **named: Any) -> tuple[list[Any], bool]:
        """Parse a call's arguments; return its inputs, and whether it had a single one.

        `named` holds the keyword arguments listed in `input_names`. Raises InputError for
        arguments that this head does not accept.
        """

    @abstractmethod
    def prepare(self, input: Any, options: Any) -> Prepared:
        """Encode one input."""

    @abstractmethod
    def finish(self, prepared: Prepared, samples: Sequence[SampleOutputs], options: Any) -> Answer:
        """Return an input's answer, from the outputs of its encodings; plain Python, JSON-ready."""

    def build_request(self, input: Any, runner: GraphRunner, options: Any) -> HeadRequest:
        """Build the request of one input; nothing runs yet."""
        prepared = self.prepare(input, options)

        def finish(samples: Sequence[SampleOutputs]) -> Answer:
            return self.finish(prepared, samples, options)

        return HeadRequest(prepared.encodings, finish, tokens=self.tokens, windows=prepared.windows)

    def answer(self, inputs: Sequence[Any], runner: GraphRunner, options: Any) -> list[Answer]:
        """Answer many inputs, with their encodings batched together."""
        requests = [self.build_request(input, runner, options) for input in inputs]
        return run_requests(requests, runner)

    def unwrap(self, answer: Answer, input: Any) -> Answer:
        """Return the answer to a call with a single input; transformers wraps some in a list."""
        return answer

    def parse_options(
        self, options: Mapping[str, Any], options_class: type[Options] | None = None
    ) -> Any:
        """Parse the options of a call into `options_class`; the head's own when None.

        Raises InputError for an unknown option or a wrong value.
        """
        options_class = options_class or self.options_class
        known = [field.name for field in fields(options_class)]
        for name in options:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(known)}"
                raise InputError(f"{self.task} has no option {name!r}: {hint}")
        return options_class(**options)


@dataclass(frozen=True)
class TextPair:
    """A text or a pair of texts; `from_dict` says whether the caller passed a dict."""

    text: Text
    pair: Text | None = None
    from_dict: bool = False


@dataclass(frozen=True)
class TokenIds:
    """A text that is encoded already, as an input of `Runtime.embed`.

    The ids are taken as they are: no special tokens and no prompt are added.

    Attributes:
        ids: whole numbers, at least one, each an id of the model's vocabulary.
    """

    ids: Sequence[int]


class TextHead(Head):
    """A head whose input is a text or a pair of texts."""

    def read_inputs(self, *args: Any, **named: Any) -> tuple[list[TextPair], bool]:
        """Parse `"A"`, a pair (`"A", "B"`, `("A", "B")` or a dict), or a list of texts and pairs.

        A dict is `{"text": "A", "text_pair": "B"}`; `text_pair` may be missing.
        """
        if len(args) == 2 and all(isinstance(arg, str) for arg in args):
            return [TextPair(*args)], True
        if len(args) != 1:
            raise InputError(
                f"{self.task} got {len(args)} inputs: give one text, a pair of texts, or a list"
            )
        if isinstance(args[0], list):
            if not args[0]:
                raise InputError("the list of texts is empty: give at least one text")
            return [parse_text_pair(value) for value in args[0]], False
        return [parse_text_pair(args[0])], True


def parse_text_pair(value: Any) -> TextPair:
    """Parse one text or pair, in each form of `TextHead.read_inputs`; raises InputError."""
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
