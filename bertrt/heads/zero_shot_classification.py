"""`zero-shot-classification` (BertForSequenceClassification): classify with labels from the caller.

Each candidate label is put into a hypothesis, such as "This example is sports.", and a model
trained on entailment (MNLI) scores whether the text entails it. Follows transformers'
ZeroShotClassificationPipeline, but refuses a model without an entailment label
(docs/guides/differences.md).
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
from bertrt.heads.truncation import check_room, truncation_kwargs
from bertrt.tokenizer import Tokenizer

__all__ = ["ZeroShotClassification", "ZeroShotOptions"]


@dataclass(frozen=True, kw_only=True)
class ZeroShotOptions(Options):
    """Options of zero-shot-classification.

    `truncation=True` truncates the text, never the hypothesis.

    Attributes:
        hypothesis_template: the hypothesis, with {} where the label goes.
        multi_label: whether each label is scored separately; otherwise the scores sum to 1.
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
                "write {} where the label goes"
            )


@dataclass(frozen=True)
class TextWithLabels:
    """A text, and its candidate labels."""

    text: str
    labels: tuple[str, ...]


class ZeroShotClassification(Head):
    """Classifies a text with candidate labels that the model was not trained on.

    Input: a text that is not empty, and candidate labels for all texts of a call.
    Answer: `{"sequence", "labels", "scores"}`: the text, and its labels and their scores, best
    first.
    """

    task = "zero-shot-classification"
    options_class = ZeroShotOptions
    input_names = ("candidate_labels",)

    def __init__(self, tokenizer: Tokenizer, config: ModelConfig) -> None:
        super().__init__(tokenizer, config)
        self._entailment_id = entailment_id(config)

    def read_inputs(self, *args: Any, **named: Any) -> tuple[list[TextWithLabels], bool]:
        """Parse `"A"` or `["A", "B"]`, and `candidate_labels` by keyword or as second argument.

        Labels are a list, or a string that separates them by commas.
        """
        values = [*args, *named.values()]
        if len(values) != 2:
            raise InputError(
                f"{self.task} got {len(args)} inputs{'' if named else ' and no labels'}: give a "
                "text or a list of texts, and",
                candidate_labels="sports,politics",
            )
        labels = _parse_labels(values[1])
        single = not isinstance(values[0], list)
        texts = [values[0]] if single else values[0]
        if not texts:
            raise InputError("the list of texts is empty: give at least one text")
        for text in texts:
            if not isinstance(text, str):
                raise InputError(
                    f"an input is {type(text).__name__} ({shorten(text)}): give a string"
                )
            if not text:
                raise InputError("a text is empty: give a text to classify")
        return [TextWithLabels(text, labels) for text in texts], single

    def prepare(self, input: TextWithLabels, options: ZeroShotOptions) -> Prepared:
        """Encode the text with the hypothesis of each label."""
        truncation = {**truncation_kwargs(options), "advice": "only_first"}
        if options.truncation is True:
            truncation["truncation"] = "only_first"
        hypotheses = [options.hypothesis_template.format(label) for label in input.labels]
        try:
            encodings = [
                self.tokenizer.encode(input.text, hypothesis, empty_pair=True, **truncation)
                for hypothesis in hypotheses
            ]
        except InputError:
            for label, hypothesis in zip(input.labels, hypotheses, strict=True):
                check_room(
                    self.tokenizer,
                    hypothesis,
                    truncation,
                    what=f"the hypothesis of the label {shorten(label)}",
                    remedy="shorten the label or hypothesis_template",
                )
            raise
        return Prepared(encodings, input)

    def finish(
        self, prepared: Prepared, samples: Sequence[SampleOutputs], options: ZeroShotOptions
    ) -> Answer:
        """Return labels and scores; of labels with equal scores the last one comes first."""
        input: TextWithLabels = prepared.context
        logits = np.stack([sample["logits"] for sample in samples])
        if options.multi_label or len(samples) == 1:
            contradiction_id = -1 if self._entailment_id == 0 else 0
            scores = softmax(logits[:, [contradiction_id, self._entailment_id]])[:, 1]
        else:
            scores = softmax(logits[:, self._entailment_id])
        # Ascending and reversed, as in transformers: this decides the order of equal scores.
        order = np.argsort(scores, kind="stable")[::-1]
        return {
            "sequence": input.text,
            "labels": [input.labels[i] for i in order],
            "scores": [float(scores[i]) for i in order],
        }


def entailment_id(config: ModelConfig) -> int:
    """Return the id of the entailment label: the first that starts with "entail", in any case.

    Raises InputError if there is none. transformers takes the last label then, with a warning;
    for a sentiment model, for example, such scores mean nothing.
    """
    for id, label in enumerate(config.labels):
        if label.lower().startswith("entail"):
            return id
    raise InputError(
        f"this model's labels are {shorten(list(config.labels))}, but zero-shot-classification "
        "needs one that starts with 'entail': use a model trained on entailment (MNLI), or name "
        "its labels in config.json and export it again"
    )


def _parse_labels(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [label.strip() for label in value.split(",") if label.strip()]
    return check_strings("candidate_labels", value)
