"""Encode and batch texts as a head's graph reads them, to calibrate on what users will send."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bertrt.arrays.inputs import complete_inputs
from bertrt.artifact.graph_io import MASKED_ONLY
from bertrt.artifact.manifest import TensorSpec
from bertrt.artifact.model_config import ModelConfig
from bertrt.export.heads import MASK_TASKS, HeadSpec
from bertrt.export.quantize.samples import Row
from bertrt.heads.question_answering import answer_tokens
from bertrt.scheduling.batching import plan
from bertrt.tokenizer import Encoding, Tokenizer
from bertrt.tokens import pad

__all__ = ["TextBatch", "make_batches"]

# Positions of a text that are masked, or whose next token is predicted: the logits of a whole text
# over a vocabulary take megabytes.
_POSITIONS = 2
_TOKENS = 512
_SEED = 20260103


@dataclass(frozen=True)
class TextBatch:
    """The inputs of one run, and which of its outputs are compared.

    Attributes:
        inputs: the graph's inputs.
        texts: the indices of its rows among all texts and pairs.
        scored: bool [B, S]: the tokens whose answers are compared, for heads that answer by token:
            the masked ones, those before a predicted one, those with a label, or [CLS] and those
            that an answer to a question may consist of. For other heads all that are not padding.
    """

    inputs: dict[str, np.ndarray]
    texts: tuple[int, ...]
    scored: np.ndarray


def make_batches(
    rows: Sequence[Row],
    head: HeadSpec,
    tokenizer: Tokenizer,
    config: ModelConfig,
    inputs: tuple[TensorSpec, ...],
    *,
    together: bool = True,
) -> list[TextBatch]:
    """Encode texts and pairs, mask tokens for heads that fill masks, and batch them.

    Args:
        rows: the texts and pairs; those too long for the model are truncated.
        head: the head.
        tokenizer, config, inputs: the artifact's tokenizer, sizes and graph inputs.
        together: batch rows of similar length; otherwise each is a batch.
    """
    encodings = [tokenizer.encode(text, pair, truncation=True) for text, pair in rows]
    special = {id for id in tokenizer.facts.special_ids.values() if id is not None}
    positions = [_positions(encoding, special, i) for i, encoding in enumerate(encodings)]
    lengths = [len(encoding.ids) for encoding in encodings]
    groups = plan(lengths, _TOKENS) if together else [[i] for i in range(len(rows))]
    batches = []
    for group in groups:
        arrays = pad(
            [encodings[i] for i in group],
            tokenizer.pad_id,
            one_token_type=tokenizer.one_token_type,
        )
        scored = arrays["attention_mask"].astype(bool)
        if head.task in ("token-classification", "question-answering"):
            for row, i in enumerate(group):
                scored[row, : lengths[i]] = _answered(encodings[i], head, tokenizer)
        if head.task in (*MASK_TASKS, "text-generation"):
            scored = np.zeros_like(scored)
            for row, i in enumerate(group):
                scored[row, positions[i]] = True
        if head.task in MASK_TASKS and tokenizer.mask_id is not None:
            arrays["input_ids"][scored] = tokenizer.mask_id
            scored = arrays["input_ids"] == tokenizer.mask_id
        if len(inputs[0].shape) == 3:
            arrays = {name: array[:, None] for name, array in arrays.items()}
        if any(spec.name == MASKED_ONLY for spec in inputs):
            arrays[MASKED_ONLY] = np.array(True)
        batches.append(TextBatch(complete_inputs(arrays, inputs, config), tuple(group), scored))
    return batches


def _answered(encoding: Encoding, head: HeadSpec, tokenizer: Tokenizer) -> np.ndarray:
    """Return which tokens can be in an answer, bool [S]."""
    if head.task == "question-answering":
        return answer_tokens(encoding, tokenizer.facts.special_ids["cls"])
    return ~np.array(encoding.special_tokens_mask, bool)


def _positions(encoding: Encoding, special: set[int], index: int) -> np.ndarray:
    """Choose a few positions of ordinary tokens, always the same; the first if there are none."""
    ordinary = np.flatnonzero([id not in special for id in encoding.ids])
    if not len(ordinary):
        return np.array([0])
    random = np.random.default_rng(_SEED + index)
    return random.choice(ordinary, min(_POSITIONS, len(ordinary)), replace=False)
