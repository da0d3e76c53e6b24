"""`text-classification` (BertForSequenceClassification): a text's labels and their scores.

The contract is that of transformers' pipeline, its older form included: without `top_k` the
answer to a text is one label, and a single text's answer comes in a list of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from bertrt.artifact.model_config import ModelConfig
from bertrt.checks import check_top_k
from bertrt.errors import InputError
from bertrt.heads.base import Options, Prepared, TextHead, TextPair
from bertrt.heads.request import Answer, SampleOutputs
from bertrt.heads.scores import softmax
from bertrt.heads.truncation import truncation_of

__all__ = ["TextClassification", "TextClassificationOptions"]


class Unset(Enum):
    """The value of an option that was not given, where None is a value of its own."""

    UNSET = "unset"


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """The logistic function, in the dtype given; no overflow for large negative logits."""
    result: np.ndarray = np.exp(-np.logaddexp(0, -logits))
    return result


def identity(logits: np.ndarray) -> np.ndarray:
    """The logits themselves."""
    return logits


FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sigmoid": sigmoid,
    "softmax": softmax,
    "none": identity,
}


@dataclass(frozen=True, kw_only=True)
class TextClassificationOptions(Options):
    """How many labels, and how logits become scores.

    `top_k` is a number of labels, best first, or None for all of them; left out, the answer is
    the best label alone. `function_to_apply` is sigmoid, softmax, none or default, which is what
    the model's config implies: none for regression, sigmoid for a multi-label model or a single
    label, otherwise softmax.
    """

    top_k: int | Unset | None = Unset.UNSET
    function_to_apply: str | None = "default"

    def __post_init__(self) -> None:
        if self.top_k is not None and self.top_k is not Unset.UNSET:
            check_top_k(self.top_k)
        name = self.function_to_apply
        known = ("default", *FUNCTIONS)
        if name is not None and (not isinstance(name, str) or name.lower() not in known):
            raise InputError(f"function_to_apply is {name!r}: use one of {', '.join(known)}")


class TextClassification(TextHead):
    """Answers `{"label", "score"}`, or with `top_k` a list of them, best first."""

    task = "text-classification"
    options = TextClassificationOptions

    def prepare(self, input: TextPair, options: TextClassificationOptions) -> Prepared:
        """Encode a text or a pair."""
        cut = truncation_of(options)
        return Prepared([self.tokenizer.encode(input.text, input.pair, **cut)])

    def finish(
        self,
        prepared: Prepared,
        samples: Sequence[SampleOutputs],
        options: TextClassificationOptions,
    ) -> Answer:
        """Score the labels; among equal scores the first label goes first."""
        name = (options.function_to_apply or "default").lower()
        if name == "default":
            name = default_function(self.config)
        scores = FUNCTIONS[name](samples[0]["logits"])
        if isinstance(options.top_k, Unset):
            return self._answer(scores, int(scores.argmax()))
        order = np.argsort(-scores, kind="stable")[: options.top_k]
        return [self._answer(scores, int(label)) for label in order]

    def unwrap(self, answer: Answer, input: TextPair, given: Mapping[str, Any]) -> Answer:
        """One label stands in a list, unless the text was given as a dict, as in transformers."""
        return [answer] if isinstance(answer, dict) and not input.from_dict else answer

    def _answer(self, scores: np.ndarray, label: int) -> dict[str, str | float]:
        return {"label": self.config.labels[label], "score": float(scores[label])}


def default_function(config: ModelConfig) -> str:
    """The function that turns a model's logits into scores when the caller names none."""
    if config.problem_type == "regression":
        return "none"
    if config.problem_type == "multi_label_classification" or len(config.labels) == 1:
        return "sigmoid"
    return "softmax"
