"""From a model's output to an answer, and from texts to batches, as simple scripts do both."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data.models import Model

__all__ = ["OUTPUTS", "BatchedTexts", "finish", "load_tokenizer"]

# The output of a transformers model that each task reads.
OUTPUTS = {
    "embeddings": "last_hidden_state",
    "classification": "logits",
    "fill-mask": "logits",
    "sparse": "logits",
    "rerank": "logits",
}
# The batch size of sentence-transformers and of most scripts.
_BATCH = 32

Run = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def finish(
    task: str, output: np.ndarray, input_ids: np.ndarray, attention_mask: np.ndarray, mask_id: int
) -> np.ndarray:
    """Return the answers [B, …] in an output.

    The output is last_hidden_state [B, S, H], or logits [B, 1], [B, 2] or [B, S, V].
    """
    if task == "embeddings":
        weights = attention_mask[:, None].astype(np.float32)
        vectors = (weights @ output)[:, 0] / weights.sum(axis=2)
        pooled: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return pooled
    if task == "fill-mask":
        rows, columns = np.nonzero(input_ids == mask_id)
        masked: np.ndarray = output[rows, columns]
        return masked
    if task == "sparse":
        weights = np.log1p(np.maximum(output, 0) * attention_mask[:, :, None])
        sparse: np.ndarray = weights.max(axis=1)
        return sparse
    return output


class BatchedTexts:
    """Answers texts through transformers' tokenizer: batches of 32 in the given order, padded.

    A pair of texts counts as one text.

    The tokenizer is loaded with the first text, because running arrays does not need it.
    """

    def __init__(self, model: Model, task: str, run: Run) -> None:
        self._checkpoint = model.checkpoint(task)
        self._run = run

    @cached_property
    def _tokenizer(self) -> Any:
        return load_tokenizer(self._checkpoint)

    def rank(self, query: str, passages: list[str]) -> np.ndarray:
        """Return the logit of each pair of the query and a passage, [N]."""
        return self([(query, passage) for passage in passages])[:, 0]

    def __call__(self, texts: list[str] | list[tuple[str, str]]) -> np.ndarray:
        """Return the answers to n texts, [n, …]."""
        answers = []
        for start in range(0, len(texts), _BATCH):
            batch = self._tokenizer(
                texts[start : start + _BATCH], padding=True, return_tensors="np"
            )
            names = ("input_ids", "attention_mask", "token_type_ids")
            answers.append(self._run(*(batch[name].astype(np.int64) for name in names)))
        return np.concatenate(answers)


def load_tokenizer(checkpoint: Path) -> Any:
    """Load transformers' fast tokenizer of a checkpoint."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(checkpoint)
