"""`fill-mask` (BertForMaskedLM): the most likely tokens at each `[MASK]`.

The contract is that of transformers' pipeline: probabilities are taken over the whole vocabulary
before targets are selected, and several masks give a list of lists.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertrt.errors import InputError
from bertrt.heads.base import Answer, Options, Prepared, Row, TextHead, TextPair, shorten, softmax

__all__ = ["FillMask", "FillMaskOptions"]


@dataclass(frozen=True, kw_only=True)
class FillMaskOptions(Options):
    """`top_k` answers a mask; `targets` limits them to these tokens."""

    top_k: int = 5
    targets: str | Sequence[str] | None = None
    tokenizer_kwargs: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_top_k(self.top_k)
        extra = sorted(set(self.tokenizer_kwargs or {}) - {"truncation", "max_length"})
        if extra:
            raise InputError(f"tokenizer_kwargs has {extra[0]!r}: use truncation and max_length")


def check_top_k(top_k: Any) -> None:
    """Raise InputError unless `top_k` is a whole number of at least 1."""
    if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
        raise InputError(f"top_k is {top_k!r}: give a whole number of at least 1")


class FillMask(TextHead):
    """Answers `[{"score", "token", "token_str", "sequence"}, …]`, best first."""

    task = "fill-mask"
    options = FillMaskOptions

    def prepare(self, input: TextPair, options: FillMaskOptions) -> Prepared:
        """Encode a text that has a mask."""
        cut = {"truncation": options.truncation, "max_length": options.max_length}
        encoding = self.tokenizer.encode(
            input.text, input.pair, **{**cut, **(options.tokenizer_kwargs or {})}
        )
        ids = np.array(encoding.ids)
        masks = np.flatnonzero(ids == self._mask_id())
        if not masks.size:
            token = self.tokenizer.id_to_token(self._mask_id())
            raise InputError(f"the text has no {token}: {shorten(input.text)}")
        return Prepared([encoding], (ids, masks))

    def finish(self, prepared: Prepared, rows: Sequence[Row], options: FillMaskOptions) -> Answer:
        """The best tokens at each mask; one list for one mask, else a list of lists."""
        ids, masks = prepared.context
        probabilities = softmax(rows[0]["logits"][masks])
        candidates = self._targets(options.targets)
        if candidates is not None:
            probabilities = probabilities[:, candidates]
        order = np.argsort(-probabilities, axis=-1, kind="stable")[:, : options.top_k]
        result = []
        for mask, scores, best in zip(masks, probabilities, order, strict=True):
            answers = []
            for column in best:
                token = int(column if candidates is None else candidates[column])
                filled = ids.copy()
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
                            skip_special_tokens=len(masks) == 1,
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
            if not isinstance(target, str):
                raise InputError(f"a target is {target!r}: give strings")
            id = self.tokenizer.token_to_id(target)
            pieces = [id] if id is not None else self._first_piece(target)
            ids.update(pieces)
        if not ids:
            raise InputError(f"targets is {targets!r}: none of them is a token of this model")
        return np.array(sorted(ids))

    def _first_piece(self, target: str) -> list[int]:
        encoding = self.tokenizer.encode(target, special_tokens=False, truncation=True)
        return list(encoding.ids[:1])
