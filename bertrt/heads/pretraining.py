"""`pretraining` (BertForPreTraining): fill masks and predict the next sentence in one run.

transformers has no pipeline for it. Each part of the answer is as its own head gives it.
"""

from collections.abc import Sequence

from bertrt.artifact.model_config import ModelConfig
from bertrt.heads.base import Prepared, TextHead, TextPair
from bertrt.heads.fill_mask import FillMask, FillMaskOptions
from bertrt.heads.next_sentence_prediction import NextSentencePrediction
from bertrt.heads.request import Answer, SampleOutputs
from bertrt.tokenizer import Tokenizer

__all__ = ["Pretraining"]


class Pretraining(TextHead):
    """Fills the masks of a text or a pair, and predicts whether the pair's second text follows.

    Input: a text or a pair of texts, with or without masks.
    Options: those of fill-mask.
    Answer: `{"fill_mask", "next_sentence"}`. `fill_mask` is the answer of fill-mask, an empty list
    without a mask; `next_sentence` is that of next-sentence-prediction, None without a pair.
    """

    task = "pretraining"
    options_class = FillMaskOptions
    tokens = "masks"

    def __init__(self, tokenizer: Tokenizer, config: ModelConfig) -> None:
        super().__init__(tokenizer, config)
        self._fill_mask = FillMask(tokenizer, config)
        self._next_sentence = NextSentencePrediction(tokenizer, config)

    def prepare(self, input: TextPair, options: FillMaskOptions) -> Prepared:
        """Encode a text or a pair."""
        masked = self._fill_mask.encode(input, options)
        return Prepared(masked.encodings, (masked, input.pair is not None))

    def finish(
        self, prepared: Prepared, samples: Sequence[SampleOutputs], options: FillMaskOptions
    ) -> Answer:
        """Return the answers of both heads."""
        masked, is_pair = prepared.context
        fill_mask = {"logits": samples[0]["prediction_logits"]}
        next_sentence = {"logits": samples[0]["seq_relationship_logits"]}
        return {
            "fill_mask": self._fill_mask.finish(masked, [fill_mask], options),
            "next_sentence": self._next_sentence.finish(prepared, [next_sentence], options)
            if is_pair
            else None,
        }
