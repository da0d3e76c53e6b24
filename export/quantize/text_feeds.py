"""Texts as the arrays that a head's graph reads, so that calibration sees what users will send."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bertrt.arrays.inputs import complete_inputs
from bertrt.artifact.manifest import TensorSpec
from bertrt.artifact.model_config import ModelConfig
from bertrt.export.heads import Head
from bertrt.scheduling.batching import plan
from bertrt.tokenizer import Encoding, Tokenizer, pad

__all__ = ["Batch", "feeds_of"]

# Tasks that take pairs: every other text begins one. Elsewhere every fourth begins one and stands
# alone as well: "thanks!" was far worse by itself than in its pair.
_PAIR_TASKS = ("next-sentence-prediction", "question-answering", "multiple-choice", "pretraining")
_MASK_TASKS = ("fill-mask", "pretraining")
# Positions of a text that are masked, or whose next token is asked for: a whole text's logits
# over a vocabulary take megabytes.
_POSITIONS = 2
_TOKENS = 512
_SEED = 20260103


@dataclass(frozen=True)
class Batch:
    """Arrays for one run, and what of its outputs is asked for.

    `texts` are the indices of its rows among all texts and pairs; `asked` is bool [B, S]: the
    tokens whose answer counts, for heads that answer by token.
    """

    feeds: dict[str, np.ndarray]
    texts: tuple[int, ...]
    asked: np.ndarray


def feeds_of(
    texts: Sequence[str],
    head: Head,
    tokenizer: Tokenizer,
    config: ModelConfig,
    inputs: tuple[TensorSpec, ...],
    *,
    together: bool = True,
) -> list[Batch]:
    """Encode texts and pairs of them, mask tokens where the head fills masks, and batch them.

    Args:
        texts: the texts; what is too long for the model is cut.
        head: the head.
        tokenizer, config, inputs: the artifact's tokenizer, sizes and graph inputs.
        together: whether texts of like length share a batch; else each is run alone.
    """
    pairs = [(text, texts[(i + 1) % len(texts)]) for i, text in enumerate(texts)]
    rows: list[tuple[str, str | None]] = [(text, None) for text in texts]
    if head.task in _PAIR_TASKS:
        rows[1::2] = pairs[1::2]
    else:
        rows += pairs[1::4]
    encodings = [tokenizer.encode(text, pair, truncation=True) for text, pair in rows]
    special = {id for id in tokenizer.facts.special_ids.values() if id is not None}
    positions = [_positions(one, special, index) for index, one in enumerate(encodings)]
    lengths = [len(one.ids) for one in encodings]
    groups = plan(lengths, _TOKENS) if together else [[i] for i in range(len(rows))]
    batches = []
    for group in groups:
        arrays = pad([encodings[i] for i in group], tokenizer.pad_id)
        asked = arrays["attention_mask"].astype(bool)
        if head.task in (*_MASK_TASKS, "text-generation"):
            asked = np.zeros_like(asked)
            for row, i in enumerate(group):
                asked[row, positions[i]] = True
        if head.task in _MASK_TASKS and tokenizer.mask_id is not None:
            arrays["input_ids"][asked] = tokenizer.mask_id
            asked = arrays["input_ids"] == tokenizer.mask_id
        if len(inputs[0].shape) == 3:
            arrays = {name: array[:, None] for name, array in arrays.items()}
        if any(one.name == "masked_only" for one in inputs):
            arrays["masked_only"] = np.array(True)
        batches.append(Batch(complete_inputs(arrays, inputs, config), tuple(group), asked))
    return batches


def _positions(encoding: Encoding, special: set[int], index: int) -> np.ndarray:
    """A few positions of ordinary tokens, the same each time; the first, when there are none."""
    ordinary = np.flatnonzero([id not in special for id in encoding.ids])
    if not len(ordinary):
        return np.array([0])
    random = np.random.default_rng(_SEED + index)
    return random.choice(ordinary, min(_POSITIONS, len(ordinary)), replace=False)
