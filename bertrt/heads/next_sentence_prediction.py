"""`next-sentence-prediction` (BertForNextSentencePrediction): whether text B follows text A.

transformers has no pipeline for it. As in its model, the first logit means that B continues A,
and the second that B is a random sentence.
"""

from collections.abc import Sequence

from bertrt.errors import InputError, shorten
from bertrt.heads.base import Options, Prepared, TextHead, TextPair
from bertrt.heads.request import Answer, SampleOutputs
from bertrt.heads.scores import softmax
from bertrt.heads.truncation import truncation_kwargs

__all__ = ["NextSentencePrediction"]

LABELS = ("is_next", "not_next")


class NextSentencePrediction(TextHead):
    """Predicts whether the second text of a pair follows the first.

    Input: a pair of texts.
    Answer: `{"label", "score"}`, the likelier of the labels is_next and not_next.
    """

    task = "next-sentence-prediction"

    def prepare(self, input: TextPair, options: Options) -> Prepared:
        """Encode a pair."""
        if input.pair is None:
            raise InputError(
                f"{self.task} got the single text {shorten(input.text)}: give two, 'A', 'B'"
            )
        truncation = truncation_kwargs(options)
        return Prepared([self.tokenizer.encode(input.text, input.pair, **truncation)])

    def finish(
        self, prepared: Prepared, samples: Sequence[SampleOutputs], options: Options
    ) -> Answer:
        """Return the likelier label and its probability."""
        probabilities = softmax(samples[0]["logits"])
        best = int(probabilities.argmax())
        return {"label": LABELS[best], "score": float(probabilities[best])}
