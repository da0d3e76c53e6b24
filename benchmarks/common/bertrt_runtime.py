"""bertrt's runtime on an artifact: how the bertrt contenders open it and ask it."""

from pathlib import Path
from typing import Any

import numpy as np

from common.answers import finish
from models import Model

__all__ = ["TASKS", "BertrtContender"]

# bertrt's names for the benchmark's tasks.
TASKS = {
    "embeddings": "feature-extraction",
    "classification": "text-classification",
    "fill-mask": "fill-mask",
}


class BertrtContender:
    """A `bertrt.Runtime`, asked as its documentation shows."""

    def __init__(self, artifact: Path, model: Model, task: str, threads: int) -> None:
        import bertrt

        self.runtime = bertrt.load(artifact, threads=threads)
        self._task = task
        self._mask_id = model.mask
        info = self.runtime.info
        self._labels = info["labels"]
        # Graphs for ONNX Runtime on a GPU do not pool.
        self._pools = "mean_embedding" in info["outputs"]

    def run(
        self, input_ids: np.ndarray, attention_mask: np.ndarray, token_type_ids: np.ndarray
    ) -> np.ndarray:
        """See `contender.Contender`."""
        arrays: dict[str, Any] = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
        }
        if self._task == "embeddings" and self._pools:
            arrays["outputs"] = ["mean_embedding"]
            return np.asarray(self.runtime.run(**arrays)["mean_embedding"])
        if self._task == "embeddings":
            states = self.runtime.run(**arrays, outputs=["last_hidden_state"])["last_hidden_state"]
            return finish(self._task, states, input_ids, attention_mask, self._mask_id)
        if self._task == "fill-mask":
            return np.asarray(self.runtime.run(**arrays, masked_only=True)["logits"][:, 0])
        return np.asarray(self.runtime.run(**arrays)["logits"])

    def answer(self, texts: list[str]) -> np.ndarray:
        """See `contender.Contender`."""
        if self._task == "embeddings":
            return np.asarray(self.runtime.embed(texts))
        if self._task == "classification":
            answers = self.runtime(texts, top_k=None, function_to_apply="none")
            return np.stack([self._logits(answer) for answer in answers])
        encodings = [self.runtime.tokenizer.encode(text) for text in texts]
        logits: list[Any] = [None] * len(texts)
        # Not `runtime(texts)`, which gives the best tokens: the proof is of all logits.
        for index, row in self.runtime._executor.rows(encodings, tokens="masks"):
            logits[index] = row["logits"][0]
        return np.stack(logits)

    async def live_answer(self, text: str) -> np.ndarray:
        """One text's answer through the live batcher, a row of what `answer` returns.

        Embeddings and classification only. Raises OverflowError when the batcher is full.
        """
        from bertrt.errors import BusyError

        try:
            if self._task == "embeddings":
                return np.asarray(await self.runtime.aembed(text))
            return self._logits(
                await self.runtime.acall(text, top_k=None, function_to_apply="none")
            )
        except BusyError as error:
            raise OverflowError(str(error)) from error

    def _logits(self, answer: list[dict[str, Any]]) -> np.ndarray:
        """A classification's scores, best first, in the order of the labels: float32 [2]."""
        scores = {one["label"]: one["score"] for one in answer}
        return np.array([scores[label] for label in self._labels], np.float32)
