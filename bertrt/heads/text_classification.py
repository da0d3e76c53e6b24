"""`text-classification` (BertForSequenceClassification): a text's labels and their scores.

Follows transformers' TextClassificationPipeline, including its older form: without `top_k` the
answer is the best label alone, in a list if the call had a single text.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from bertrt.artifact.manifest import CrossEncoderFacts, TaskFacts
from bertrt.artifact.model_config import ModelConfig
from bertrt.checks import check_top_k
from bertrt.errors import InputError
from bertrt.heads.base import Options, Prepared, TextHead, TextPair
from bertrt.heads.request import Answer, SampleOutputs
from bertrt.heads.scores import sigmoid, softmax, top_k
from bertrt.heads.truncation import truncation_kwargs

__all__ = ["TextClassification", "TextClassificationOptions"]


class Unset(Enum):
    """The type of `UNSET`: the default of an option for which None has a meaning."""

    UNSET = "unset"


# What turns logits into scores, by the value of `function_to_apply`.
FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "sigmoid": sigmoid,
    "softmax": softmax,
    "none": lambda logits: logits,
}


@dataclass(frozen=True, kw_only=True)
class TextClassificationOptions(Options):
    """Options of text-classification.

    Attributes:
        top_k: how many labels to return, None for all; unset, the answer is the best label alone.
        function_to_apply: "sigmoid", "softmax" or "none"; "default" and None choose by the
            model's config: none for regression, sigmoid for a multi-label model or a single
            label, softmax otherwise.
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
    """Classifies a text.

    Input: a text or a pair of texts.
    Answer: with `top_k` `[{"label", "score"}, …]`, best first; without it `{"label", "score"}`,
    in a list if the call had a single input that is not a dict.
    """

    task = "text-classification"
    options_class = TextClassificationOptions
    # How pairs are scored: see `bertrt.heads.reranking`.
    cross_encoder = CrossEncoderFacts("identity", {}, None)

    def take_facts(self, facts: TaskFacts | None, arrays: Mapping[str, np.ndarray]) -> None:
        """Take how pairs are scored, if the manifest says it."""
        if isinstance(facts, CrossEncoderFacts):
            self.cross_encoder = facts

    def prepare(self, input: TextPair, options: TextClassificationOptions) -> Prepared:
        """Encode a text or a pair."""
        truncation = truncation_kwargs(options)
        return Prepared([self.tokenizer.encode(input.text, input.pair, **truncation)])

    def finish(
        self,
        prepared: Prepared,
        samples: Sequence[SampleOutputs],
        options: TextClassificationOptions,
    ) -> Answer:
        """Return labels and scores; labels with equal scores keep the config's order."""
        name = (options.function_to_apply or "default").lower()
        if name == "default":
            name = default_function(self.config)
        scores = FUNCTIONS[name](samples[0]["logits"])
        if isinstance(options.top_k, Unset):
            return self._answer(scores, int(scores.argmax()))
        return [self._answer(scores, int(label)) for label in top_k(scores, options.top_k)]

    def unwrap(self, answer: Answer, input: TextPair) -> Answer:
        """Return a single label in a list, unless the input was a dict, as transformers does."""
        return [answer] if isinstance(answer, dict) and not input.from_dict else answer

    def _answer(self, scores: np.ndarray, label: int) -> dict[str, str | float]:
        return {"label": self.config.labels[label], "score": float(scores[label])}


def default_function(config: ModelConfig) -> str:
    """Return the name of the function that turns a model's logits into scores by default."""
    if config.problem_type == "regression":
        return "none"
    if config.problem_type == "multi_label_classification" or len(config.labels) == 1:
        return "sigmoid"
    return "softmax"
