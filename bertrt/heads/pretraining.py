"""`pretraining` (BertForPreTraining): the masked words, and whether B follows A, in one run.

transformers has no such pipeline; each half answers as the head of its own does.
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
    """Answers `{"fill_mask", "next_sentence"}`.

    `fill_mask` is as the fill-mask head gives it, and an empty list for a text without a mask;
    `next_sentence` is as the next-sentence-prediction head gives it, and None for a single text.
    """

    task = "pretraining"
    options = FillMaskOptions
    tokens = "masks"

    def __init__(self, tokenizer: Tokenizer, config: ModelConfig) -> None:
        super().__init__(tokenizer, config)
        self._fill_mask = FillMask(tokenizer, config)
        self._next_sentence = NextSentencePrediction(tokenizer, config)

    def prepare(self, input: TextPair, options: FillMaskOptions) -> Prepared:
        """Encode a text or a pair, with or without masks."""
        masked = self._fill_mask.encode(input, options)
        return Prepared(masked.encodings, (masked, input.pair is not None))

    def finish(
        self, prepared: Prepared, samples: Sequence[SampleOutputs], options: FillMaskOptions
    ) -> Answer:
        """Each half of the answer, by its own head."""
        masked, paired = prepared.context
        words = {"logits": samples[0]["prediction_logits"]}
        order = {"logits": samples[0]["seq_relationship_logits"]}
        return {
            "fill_mask": self._fill_mask.finish(masked, [words], options),
            "next_sentence": self._next_sentence.finish(prepared, [order], options)
            if paired
            else None,
        }
