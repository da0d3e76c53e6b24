"""`zero-shot-classification` (BertForSequenceClassification): labels that the model never saw.

Each label is put into a sentence, and a model trained on entailment is asked whether the text
entails it. The contract is that of transformers' pipeline.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertrt.artifact.model_config import ModelConfig
from bertrt.checks import check_flag, check_strings
from bertrt.errors import InputError, shorten
from bertrt.heads.base import Head, Options, Prepared
from bertrt.heads.request import Answer, SampleOutputs
from bertrt.heads.scores import softmax
from bertrt.heads.truncation import truncation_of
from bertrt.tokenizer import Tokenizer

__all__ = ["ZeroShotClassification", "ZeroShotOptions"]


@dataclass(frozen=True, kw_only=True)
class ZeroShotOptions(Options):
    """`multi_label` scores each label for itself, where otherwise their scores sum to 1.

    `hypothesis_template` is the sentence that a label is put into, at its {}. `truncation=True`
    cuts the text and never the hypothesis.
    """

    hypothesis_template: str = "This example is {}."
    multi_label: bool = False

    def __post_init__(self) -> None:
        check_flag("multi_label", self.multi_label)
        template = self.hypothesis_template
        if not isinstance(template, str):
            raise InputError(f"hypothesis_template is {shorten(template)}: give a string")
        try:
            fixed = template.format("a") == template.format("b")
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            raise InputError(
                f"hypothesis_template is {shorten(template)}, which does not take one label "
                f"({error}): write a single {{}} where the label goes"
            ) from error
        if fixed:
            raise InputError(
                f"hypothesis_template is {shorten(template)}, which has no place for a label: "
                "write {} where it goes"
            )


@dataclass(frozen=True)
class Question:
    """A text, and the labels to choose from."""

    sequence: str
    labels: tuple[str, ...]


class ZeroShotClassification(Head):
    """Answers `{"sequence", "labels", "scores"}`, best label first."""

    task = "zero-shot-classification"
    options = ZeroShotOptions
    input_names = ("candidate_labels",)

    def __init__(self, tokenizer: Tokenizer, config: ModelConfig) -> None:
        super().__init__(tokenizer, config)
        self._entailment = entailment_id(config)

    def read_inputs(self, *args: Any, **named: Any) -> tuple[list[Question], bool]:
        """`"A"` or `["A", "B"]`, and `candidate_labels`, by name or as the second argument."""
        given = [*args, *named.values()]
        if len(given) != 2:
            raise InputError(
                f"{self.task} got {len(args)} inputs{'' if named else ' and no labels'}: give a "
                "text or a list of texts, and candidate_labels=[…]"
            )
        labels = _labels(given[1])
        single = not isinstance(given[0], list)
        texts = [given[0]] if single else given[0]
        if not texts:
            raise InputError("the list of texts is empty: give at least one text")
        for text in texts:
            if not isinstance(text, str):
                raise InputError(
                    f"an input is {type(text).__name__} ({shorten(text)}): give a string"
                )
            if not text:
                raise InputError("a text is empty: zero-shot-classification needs one to judge")
        return [Question(text, labels) for text in texts], single

    def prepare(self, input: Question, options: ZeroShotOptions) -> Prepared:
        """Encode the text once with each label's hypothesis."""
        cut = truncation_of(options)
        if options.truncation is True:
            cut["truncation"] = "only_first"
        hypotheses = [options.hypothesis_template.format(label) for label in input.labels]
        encodings = [
            self.tokenizer.encode(input.sequence, hypothesis, empty_pair=True, **cut)
            for hypothesis in hypotheses
        ]
        return Prepared(encodings, input)

    def finish(
        self, prepared: Prepared, samples: Sequence[SampleOutputs], options: ZeroShotOptions
    ) -> Answer:
        """Turn the entailment logits into scores; among equal scores the last label goes first."""
        question: Question = prepared.context
        logits = np.stack([sample["logits"] for sample in samples])
        if options.multi_label or len(samples) == 1:
            contradiction = -1 if self._entailment == 0 else 0
            scores = softmax(logits[:, [contradiction, self._entailment]])[:, 1]
        else:
            scores = softmax(logits[:, self._entailment])
        # Ascending and then reversed, as in transformers: it decides which of two equals is first.
        order = np.argsort(scores, kind="stable")[::-1]
        return {
            "sequence": question.sequence,
            "labels": [question.labels[i] for i in order],
            "scores": [float(scores[i]) for i in order],
        }


def entailment_id(config: ModelConfig) -> int:
    """The class that means entailment: the first whose name starts with "entail".

    Raises InputError when there is none. transformers takes the last class then, with a warning;
    of a sentiment model that gives scores which mean nothing.
    """
    for label, id in config.label2id.items():
        if label.lower().startswith("entail") and 0 <= id < len(config.labels):
            return id
    raise InputError(
        f"this model's labels are {shorten(list(config.labels))}, and zero-shot-classification "
        "needs one that starts with 'entail': use a model trained on entailment (MNLI), or name "
        "its labels in config.json and export it again"
    )


def _labels(value: Any) -> tuple[str, ...]:
    """The candidate labels; a string holds them separated by commas."""
    if isinstance(value, str):
        value = [label.strip() for label in value.split(",") if label.strip()]
    return check_strings("candidate_labels", value)
