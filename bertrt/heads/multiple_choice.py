"""`multiple-choice` (BertForMultipleChoice): which of several texts goes with a prompt.

transformers has no pipeline for it. As in its documentation, each choice is encoded as the pair
(prompt, choice), and probabilities are over the choices.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertrt.checks import check_strings
from bertrt.errors import InputError, shorten
from bertrt.heads.base import Head, Options, Prepared
from bertrt.heads.request import Answer, SampleOutputs
from bertrt.heads.scores import softmax, top_k
from bertrt.heads.truncation import check_room, truncation_kwargs

__all__ = ["MultipleChoice"]


@dataclass(frozen=True)
class PromptWithChoices:
    """A prompt, and the texts to choose from."""

    prompt: str
    choices: tuple[str, ...]


class MultipleChoice(Head):
    """Ranks the choices that may follow a prompt.

    Input: a prompt and any number of choices, also more or fewer than in training.
    Answer: `[{"choice", "text", "score"}, …]`, best first. `choice` is an index from 0; a single
    choice has the score 1.
    """

    task = "multiple-choice"
    input_names = ("choices",)

    def read_inputs(self, *args: Any, **named: Any) -> tuple[list[PromptWithChoices], bool]:
        """Parse `"A", choices=[…]` or `{"prompt": "A", "choices": […]}`, or a list of either."""
        if len(args) != 1:
            raise InputError(
                f"{self.task} got {len(args)} inputs: give one prompt or a list, and choices=[…]"
            )
        choices = named.get("choices")
        if isinstance(args[0], list):
            if not args[0]:
                raise InputError("the list of prompts is empty: give at least one")
            return [_parse_input(value, choices) for value in args[0]], False
        return [_parse_input(args[0], choices)], True

    def prepare(self, input: PromptWithChoices, options: Options) -> Prepared:
        """Encode the prompt with each choice."""
        truncation = truncation_kwargs(options)
        try:
            encodings = [
                self.tokenizer.encode(
                    input.prompt, choice, empty_pair=True, advice="only_first", **truncation
                )
                for choice in input.choices
            ]
        except InputError:
            for choice in input.choices:
                what = f"the choice {shorten(choice)}"
                check_room(self.tokenizer, choice, truncation, what=what, remedy="shorten it")
            raise
        return Prepared(encodings, input.choices)

    def finish(
        self, prepared: Prepared, samples: Sequence[SampleOutputs], options: Options
    ) -> Answer:
        """Return every choice and its probability; each sample's logits are [1]."""
        scores = softmax(np.concatenate([sample["logits"] for sample in samples]))
        return [
            {"choice": int(i), "text": prepared.context[i], "score": float(scores[i])}
            for i in top_k(scores)
        ]


def _parse_input(value: Any, choices: Any) -> PromptWithChoices:
    if isinstance(value, dict) and set(value) == {"prompt", "choices"}:
        if choices is not None:
            raise InputError("choices is given twice, in the dict and by keyword: give it once")
        value, choices = value["prompt"], value["choices"]
    if not isinstance(value, str):
        raise InputError(
            f"an input is {type(value).__name__} ({shorten(value)}): give a string and "
            "choices=[…], or {'prompt': …, 'choices': […]}"
        )
    if choices is None:
        raise InputError(f"the prompt {shorten(value)} has no choices: give choices=[…]")
    return PromptWithChoices(value, check_strings("choices", choices))
