"""What every head is: a way from texts to encodings, and from the graph's rows to answers.

A head knows neither session nor file. It is given a tokenizer and a config, and, when it answers,
a `GraphRunner`: something that turns encodings into rows of outputs.
"""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import accumulate
from typing import Any, ClassVar, Protocol

import numpy as np

from bertrt.artifact.model_config import ModelConfig
from bertrt.errors import InputError, shorten
from bertrt.tokenizer import Encoding, Text, Tokenizer

__all__ = [
    "Answer",
    "GraphRunner",
    "Head",
    "HeadRequest",
    "Options",
    "Prepared",
    "SampleOutputs",
    "TextHead",
    "TextPair",
]

# One encoding's outputs by name, without batch axis and padding: logits [V], [S, V], ...
SampleOutputs = Mapping[str, np.ndarray]
Answer = Any


class GraphRunner(Protocol):
    """What a head may ask of the graph."""

    def rows(
        self,
        encodings: Sequence[Encoding],
        *,
        outputs: Sequence[str] | None = None,
        tokens: str = "all",
    ) -> Iterator[tuple[int, SampleOutputs]]:
        """Run encodings in batches of like length; yield each one's index and its outputs.

        `outputs` limits which. `tokens` says whose outputs are read, of those that each token
        has: "all" gives a row's [S, …], "first" [1, …], and "masks" [M, …] for its M mask tokens.

        They come in the order in which batches finish, so that a caller need not hold all
        outputs at once: logits over a vocabulary are large.
        """

    def run(self, *, outputs: Sequence[str] | None = None, **arrays: Any) -> dict[str, np.ndarray]:
        """Run the graph once on arrays [B, S] as they are; `outputs` limits which it gives."""


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
    """One input as encodings, and whatever `finish` needs to know of it."""

    encodings: Sequence[Encoding]
    context: Any = None


@dataclass(frozen=True)
class HeadRequest:
    """What one input asks of the graph, and how that becomes its answer.

    `outputs` and `tokens` are as in `GraphRunner.rows`. `finish` takes the rows of the encodings,
    in order. Where there are no encodings, it takes none and does all the work itself.
    """

    encodings: Sequence[Encoding]
    finish: Callable[[Sequence[SampleOutputs]], Answer]
    outputs: tuple[str, ...] | None = None
    tokens: str = "all"


class Head(ABC):
    """One task's way from inputs to answers."""

    task: ClassVar[str]
    options: ClassVar[type[Options]] = Options

    def __init__(self, tokenizer: Tokenizer, config: ModelConfig) -> None:
        self.tokenizer = tokenizer
        self.config = config

    @abstractmethod
    def inputs(self, *args: Any, **named: Any) -> tuple[list[Any], bool]:
        """Split a call's arguments into inputs; the flag says that there was a single one.

        `named` holds the keywords listed in `input_names`. Raises InputError when they fit no
        form that this head takes.
        """

    @abstractmethod
    def prepare(self, input: Any, options: Any) -> Prepared:
        """Encode one input."""

    @abstractmethod
    def finish(self, prepared: Prepared, rows: Sequence[SampleOutputs], options: Any) -> Answer:
        """Make the answer to one input of its encodings' rows; plain Python, JSON-ready."""

    # Whose outputs `finish` reads: see GraphRunner.rows.
    tokens: ClassVar[str] = "all"
    # Keywords of a call that are inputs and not options.
    input_names: ClassVar[tuple[str, ...]] = ()

    def ask(self, input: Any, model: GraphRunner, options: Any) -> HeadRequest:
        """What to ask of the graph for one input; nothing is asked of the model yet."""
        prepared = self.prepare(input, options)
        finish = partial(self.finish, prepared, options=options)
        return HeadRequest(prepared.encodings, finish, tokens=self.tokens)

    def answers(self, inputs: Sequence[Any], model: GraphRunner, options: Any) -> list[Answer]:
        """Answer many inputs, their encodings batched together."""
        asked = [self.ask(one, model, options) for one in inputs]
        owners = [i for i, one in enumerate(asked) for _ in one.encodings]
        starts = [0, *accumulate(len(one.encodings) for one in asked)]
        encodings = [encoding for one in asked for encoding in one.encodings]
        waiting: dict[int, dict[int, SampleOutputs]] = {}
        answers: list[Answer] = [None] * len(asked)
        for index, row in model.rows(encodings, tokens=self.tokens):
            owner = owners[index]
            rows = waiting.setdefault(owner, {})
            rows[index - starts[owner]] = row
            if len(rows) == len(asked[owner].encodings):
                answers[owner] = asked[owner].finish([rows[place] for place in sorted(rows)])
                del waiting[owner]
        return answers

    def single(self, answer: Answer, input: Any, given: Mapping[str, Any]) -> Answer:
        """The answer to a call with a single input; transformers wraps some in a list."""
        return answer

    def parse_options(self, given: Mapping[str, Any], options: type[Options] | None = None) -> Any:
        """The options of a call: the head's, or of another class.

        Raises InputError for one that this head does not have, or that has a wrong value.
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

    def inputs(self, *args: Any, **named: Any) -> tuple[list[TextPair], bool]:
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
