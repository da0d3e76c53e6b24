"""`multiple-choice` (BertForMultipleChoice): which of several texts goes with a prompt.

transformers has no such pipeline. As in its documentation, each choice is encoded as the pair
(prompt, choice), and probabilities are taken over the choices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertrt.checks import check_strings
from bertrt.errors import InputError, shorten
from bertrt.heads.base import Head, Options, Prepared
from bertrt.heads.request import Answer, SampleOutputs
from bertrt.heads.scores import softmax
from bertrt.heads.truncation import truncation_of

__all__ = ["MultipleChoice"]


@dataclass(frozen=True)
class Question:
    """A prompt, and the texts to choose from."""

    prompt: str
    choices: tuple[str, ...]


class MultipleChoice(Head):
    """Answers `[{"choice", "text", "score"}, …]`, best first; `choice` counts from 0.

    There may be any number of choices, not only as many as the model was trained with; a single
    one has the score 1.
    """

    task = "multiple-choice"
    input_names = ("choices",)

    def read_inputs(self, *args: Any, **named: Any) -> tuple[list[Question], bool]:
        """`"A", choices=[…]` or `{"prompt": "A", "choices": […]}`, or a list of either."""
        if len(args) != 1:
            raise InputError(
                f"{self.task} got {len(args)} inputs: give one prompt or a list, and choices=[…]"
            )
        choices = named.get("choices")
        if isinstance(args[0], list):
            if not args[0]:
                raise InputError("the list of prompts is empty: give at least one")
            return [_question(one, choices) for one in args[0]], False
        return [_question(args[0], choices)], True

    def prepare(self, input: Question, options: Options) -> Prepared:
        """Encode the prompt once with each choice."""
        cut = truncation_of(options)
        encodings = [
            self.tokenizer.encode(input.prompt, choice, empty_pair=True, **cut)
            for choice in input.choices
        ]
        return Prepared(encodings, input.choices)

    def finish(
        self, prepared: Prepared, samples: Sequence[SampleOutputs], options: Options
    ) -> Answer:
        """Every choice and its probability; each sample's logits are [1]."""
        scores = softmax(np.concatenate([sample["logits"] for sample in samples]))
        return [
            {"choice": int(i), "text": prepared.context[i], "score": float(scores[i])}
            for i in np.argsort(-scores, kind="stable")
        ]


def _question(value: Any, choices: Any) -> Question:
    if isinstance(value, dict) and set(value) == {"prompt", "choices"}:
        if choices is not None:
            raise InputError("choices is given twice: in the dict, and beside it")
        value, choices = value["prompt"], value["choices"]
    if not isinstance(value, str):
        raise InputError(
            f"an input is {type(value).__name__} ({shorten(value)}): give a string and "
            "choices=[…], or {'prompt': …, 'choices': […]}"
        )
    if choices is None:
        raise InputError(f"the prompt {shorten(value)} has no choices: give choices=[…]")
    return Question(value, check_strings("choices", choices))
