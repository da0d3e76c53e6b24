"""`next-sentence-prediction` (BertForNextSentencePrediction): whether B follows A in a text.

transformers has no such pipeline; the meaning of the two logits is its model's: the first says
that B continues A, the second that B is a random sentence.
"""

from collections.abc import Sequence

from bertrt.errors import InputError, shorten
from bertrt.heads.base import Options, Prepared, TextHead, TextPair
from bertrt.heads.request import Answer, SampleOutputs
from bertrt.heads.scores import softmax
from bertrt.heads.truncation import truncation_of

__all__ = ["NextSentencePrediction"]

LABELS = ("is_next", "not_next")


class NextSentencePrediction(TextHead):
    """Answers `{"label", "score"}` for a pair: the likelier of is_next and not_next."""

    task = "next-sentence-prediction"

    def prepare(self, input: TextPair, options: Options) -> Prepared:
        """Encode a pair."""
        if input.pair is None:
            raise InputError(
                f"{self.task} got the single text {shorten(input.text)}: give two, 'A', 'B'"
            )
        cut = truncation_of(options)
        return Prepared([self.tokenizer.encode(input.text, input.pair, **cut)])

    def finish(
        self, prepared: Prepared, samples: Sequence[SampleOutputs], options: Options
    ) -> Answer:
        """The likelier label and its probability."""
        probabilities = softmax(samples[0]["logits"])
        best = int(probabilities.argmax())
        return {"label": LABELS[best], "score": float(probabilities[best])}
