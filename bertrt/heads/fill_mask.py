"""`fill-mask` (BertForMaskedLM): the most likely tokens at each `[MASK]`.

The contract is that of transformers' pipeline: probabilities are taken over the whole vocabulary
before targets are selected, and several masks give a list of lists.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertrt.checks import check_strings, check_top_k
from bertrt.errors import InputError, shorten
from bertrt.heads.base import Options, Prepared, TextHead, TextPair
from bertrt.heads.request import Answer, SampleOutputs
from bertrt.heads.scores import softmax
from bertrt.heads.truncation import check_tokenizer_kwargs, truncation_of

__all__ = ["FillMask", "FillMaskOptions"]


@dataclass(frozen=True, kw_only=True)
class FillMaskOptions(Options):
    """`top_k` answers a mask; `targets` limits them to these tokens.

    `tokenizer_kwargs` may hold truncation and max_length, where transformers' pipeline has them.
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
class Masked:
    """A text's token ids [S], the positions of its masks, and the targets' ids, if any."""

    ids: np.ndarray
    masks: np.ndarray
    targets: np.ndarray | None


class FillMask(TextHead):
    """Answers `[{"score", "token", "token_str", "sequence"}, …]`, best first."""

    task = "fill-mask"
    options = FillMaskOptions
    tokens = "masks"

    def prepare(self, input: TextPair, options: FillMaskOptions) -> Prepared:
        """Encode a text that has a mask."""
        prepared = self.encode(input, options)
        if not prepared.context.masks.size:
            token = self.tokenizer.id_to_token(self._mask_id())
            where = " in what truncation leaves of it" if prepared.encodings[0].overflowing else ""
            raise InputError(f"the text has no {token}{where}: {shorten(input.text)}")
        return prepared

    def encode(self, input: TextPair, options: FillMaskOptions) -> Prepared:
        """Encode a text and find its masks, of which there may be none."""
        encoding = self.tokenizer.encode(
            input.text, input.pair, **truncation_of(options, options.tokenizer_kwargs)
        )
        ids = np.array(encoding.ids)
        masks = np.flatnonzero(ids == self._mask_id())
        return Prepared([encoding], Masked(ids, masks, self._targets(options.targets)))

    def finish(
        self, prepared: Prepared, samples: Sequence[SampleOutputs], options: FillMaskOptions
    ) -> Answer:
        """The best tokens at each mask: one list for one mask, else a list of lists."""
        masked: Masked = prepared.context
        probabilities = softmax(samples[0]["logits"])
        if masked.targets is not None:
            probabilities = probabilities[:, masked.targets]
        result = []
        for mask, scores in zip(masked.masks, probabilities, strict=True):
            answers = []
            for column in largest(scores, options.top_k):
                token = int(column if masked.targets is None else masked.targets[column])
                filled = masked.ids.copy()
                filled[mask] = token
                answers.append(
                    {
                        "score": float(scores[column]),
                        "token": token,
                        "token_str": self.tokenizer.decode([token]),
                        # With one mask the special tokens are noise; with more, the others
                        # must stay visible.
                        "sequence": self.tokenizer.decode(
                            filled[filled != self.tokenizer.pad_id].tolist(),
                            skip_special_tokens=len(masked.masks) == 1,
                        ),
                    }
                )
            result.append(answers)
        return result[0] if len(result) == 1 else result

    def _mask_id(self) -> int:
        if self.tokenizer.mask_id is None:
            raise InputError("this tokenizer has no mask token, so fill-mask has nothing to fill")
        return self.tokenizer.mask_id

    def _targets(self, targets: str | Sequence[str] | None) -> np.ndarray | None:
        """The ids of the target tokens, each once; the first piece of one that is not a token."""
        if targets is None:
            return None
        ids = set()
        for target in [targets] if isinstance(targets, str) else targets:
            id = self.tokenizer.token_to_id(target)
            pieces = [id] if id is not None else self._first_piece(target)
            ids.update(pieces)
        if not ids:
            raise InputError(f"targets is {targets!r}: none of them is a token of this model")
        return np.array(sorted(ids))

    def _first_piece(self, target: str) -> list[int]:
        encoding = self.tokenizer.encode(target, special_tokens=False, truncation=True)
        return list(encoding.ids[:1])


def largest(scores: np.ndarray, count: int) -> np.ndarray:
    """The indices of the `count` largest scores, best first; among equals the lower index first."""
    if count < scores.size:
        # Sorting a whole vocabulary takes longer than a small model's forward pass.
        least = np.partition(scores, scores.size - count)[scores.size - count]
        found = np.flatnonzero(scores >= least)
    else:
        found = np.arange(scores.size)
    best: np.ndarray = found[np.argsort(-scores[found], kind="stable")][:count]
    return best
