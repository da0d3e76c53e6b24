"""`fill-mask` (BertForMaskedLM): the most likely tokens at each mask.

Follows transformers' FillMaskPipeline: probabilities are over the whole vocabulary, also with
`targets`, and a text with several masks gives a list of lists.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertrt.checks import check_strings, check_top_k
from bertrt.errors import InputError, shorten
from bertrt.heads.base import Options, Prepared, TextHead, TextPair
from bertrt.heads.request import Answer, SampleOutputs
from bertrt.heads.scores import softmax, top_k
from bertrt.heads.truncation import check_tokenizer_kwargs, truncation_kwargs

__all__ = ["FillMask", "FillMaskOptions"]

# The mask tokens of most models, in any case: a text may have another model's.
_MASKS = re.compile(r"\[mask\]|<mask>", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class FillMaskOptions(Options):
    """Options of fill-mask.

    Attributes:
        top_k: how many tokens to return for each mask.
        targets: return only these tokens; a word that is not a token stands for its first piece.
        tokenizer_kwargs: `truncation` and `max_length` in a dict, as transformers takes them.
    """

    top_k: int = 5
    targets: str | Sequence[str] | None = None
    tokenizer_kwargs: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_top_k(self.top_k)
        if self.targets is not None and not isinstance(self.targets, str):
            check_strings("targets", self.targets)
        check_tokenizer_kwargs("tokenizer_kwargs", self.tokenizer_kwargs)


@dataclass(frozen=True)
class MaskedText:
    """A text's token ids [S], the positions of its masks, and the ids of the targets, if any."""

    ids: np.ndarray
    masks: np.ndarray
    targets: np.ndarray | None


class FillMask(TextHead):
    """Predicts the most likely tokens at each mask.

    Input: a text or a pair of texts, with at least one mask token.
    Answer: `[{"score", "token", "token_str", "sequence"}, …]`, best first; a list of such lists
    if there are several masks.
    """

    task = "fill-mask"
    options_class = FillMaskOptions
    tokens = "masks"

    def prepare(self, input: TextPair, options: FillMaskOptions) -> Prepared:
        """Encode a text that has a mask."""
        prepared = self.encode(input, options)
        if not prepared.context.masks.size:
            mask = self.tokenizer.id_to_token(self._mask_id())
            if self.tokenizer.mask_is_text:
                raise InputError(
                    f"no text can have a {mask}, because split_special_tokens in this tokenizer's "
                    "tokenizer_config.json makes it plain text: remove it and export the "
                    "checkpoint again"
                )
            when = " after truncation" if prepared.encodings[0].overflowing else ""
            for other in _MASKS.findall(f"{input.text} {input.pair or ''}"):
                if not when and other != mask:
                    raise InputError(
                        f"the text has {other}, and this model's mask token is {mask}: write that"
                    )
            raise InputError(f"the text has no {mask}{when}: {shorten(input.text)}")
        return prepared

    def encode(self, input: TextPair, options: FillMaskOptions) -> Prepared:
        """Encode a text and find its masks, if it has any."""
        encoding = self.tokenizer.encode(
            input.text, input.pair, **truncation_kwargs(options, options.tokenizer_kwargs)
        )
        ids = np.array(encoding.ids)
        masks = np.flatnonzero(ids == self._mask_id())
        return Prepared([encoding], MaskedText(ids, masks, self._target_ids(options.targets)))

    def finish(
        self, prepared: Prepared, samples: Sequence[SampleOutputs], options: FillMaskOptions
    ) -> Answer:
        """Return the best tokens: a list for one mask, a list of lists for several."""
        text: MaskedText = prepared.context
        probabilities = softmax(samples[0]["logits"])
        if text.targets is not None:
            probabilities = probabilities[:, text.targets]
        # Without a padding token no id is None, and all are kept.
        pad_id = self.tokenizer.facts.special_ids.get("pad", None)
        answer = []
        for mask, scores in zip(text.masks, probabilities, strict=True):
            predictions = []
            for column in top_k(scores, options.top_k):
                token = int(column if text.targets is None else text.targets[column])
                filled = text.ids.copy()
                filled[mask] = token
                predictions.append(
                    {
                        "score": float(scores[column]),
                        "token": token,
                        "token_str": self.tokenizer.decode([token]),
                        # Special tokens are kept if there are several masks, so that the other
                        # masks stay visible.
                        "sequence": self.tokenizer.decode(
                            filled[filled != pad_id].tolist(),
                            skip_special_tokens=len(text.masks) == 1,
                        ),
                    }
                )
            answer.append(predictions)
        return answer[0] if len(answer) == 1 else answer

    def _mask_id(self) -> int:
        if self.tokenizer.mask_id is None:
            raise InputError("this tokenizer has no mask token, which fill-mask needs")
        return self.tokenizer.mask_id

    def _target_ids(self, targets: str | Sequence[str] | None) -> np.ndarray | None:
        """Return the ids of the targets, sorted and without duplicates."""
        if targets is None:
            return None
        ids = set()
        for target in [targets] if isinstance(targets, str) else targets:
            id = self.tokenizer.token_to_id(target)
            ids.update([id] if id is not None else self._first_piece(target))
        if not ids:
            raise InputError(f"targets is {targets!r}: none of them is a token of this model")
        return np.array(sorted(ids))

    def _first_piece(self, target: str) -> list[int]:
        """Return the id of a word's first piece in a list, which is empty if it has none."""
        encoding = self.tokenizer.encode(target, special_tokens=False, truncation=True)
        return list(encoding.ids[:1])
