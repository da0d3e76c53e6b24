"""bertrt, on the CPU and on GPUs, through its public API."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contenders.answers import finish
from benchmarks.contenders.contender import Contender
from benchmarks.contenders.requirements import (
    cuda_missing,
    cuda_provider_missing,
    packages_missing,
)
from benchmarks.data.models import ALL_TASKS, TASKS, Model

__all__ = ["CONTENDERS", "EXPORT_TASKS", "BertrtModel"]

# bertrt's names for the benchmark's tasks.
EXPORT_TASKS = {
    "embeddings": "feature-extraction",
    "classification": "text-classification",
    "fill-mask": "fill-mask",
    "sparse": "sparse-embedding",
    "rerank": "text-classification",
}
# The logits of an untrained head are near ties, which int8 cannot preserve. The row's error shows
# the agreement that it reached.
_UNTRAINED = {"min_agreement": 0.5}
_BATCH = 32


class BertrtModel:
    """A `bertrt.Runtime`, used as its documentation shows; a `LoadedModel`."""

    def __init__(self, artifact: Path, model: Model, task: str, threads: int) -> None:
        import bertrt

        self.runtime = bertrt.load(artifact, threads=threads)
        self._task = task
        self._mask_id = model.mask
        info = self.runtime.info
        self._labels = info["labels"]
        # Graphs for ONNX Runtime on a GPU do not pool.
        self._pools = "sentence_embedding" in info["outputs"]
        self._batcher: Any = None

    def run(
        self, input_ids: np.ndarray, attention_mask: np.ndarray, token_type_ids: np.ndarray
    ) -> np.ndarray:
        """See `LoadedModel`."""
        arrays: dict[str, Any] = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
        }
        if self._task == "embeddings" and self._pools:
            arrays["outputs"] = ["sentence_embedding"]
            return np.asarray(self.runtime.run(**arrays)["sentence_embedding"])
        if self._task == "embeddings":
            states = self.runtime.run(**arrays, outputs=["last_hidden_state"])["last_hidden_state"]
            return finish(self._task, states, input_ids, attention_mask, self._mask_id)
        if self._task == "fill-mask":
            return self._mask_logits(arrays)
        if self._task == "sparse":
            return np.asarray(self.runtime.run(**arrays)["sparse_embedding"])
        return np.asarray(self.runtime.run(**arrays)["logits"])

    def answer(self, texts: list[str]) -> np.ndarray:
        """See `LoadedModel`."""
        if self._task == "embeddings":
            # As every contender: the unit mean of whole texts, whatever files lie beside the model.
            limit = self.runtime.info["max_length"]
            vectors = self.runtime.embed(
                texts, pooling="mean", normalize=True, truncation=False, max_length=limit
            )
            return np.asarray(vectors)
        if self._task == "classification":
            answers = self.runtime(texts, top_k=None, function_to_apply="none")
            return np.stack([self._logits(answer) for answer in answers])
        if self._task == "sparse":
            found = self.runtime.embed_sparse(texts, truncation=False)
            rows = np.zeros((len(texts), self.runtime.info["sparse"]["size"]), np.float32)
            for row, vector in zip(rows, found, strict=True):
                row[vector.ids] = vector.weights
            return rows
        # Not `runtime(texts)`, which returns only the best tokens: all logits are checked.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        logits: list[Any] = [None] * len(texts)
        for start in range(0, len(order), _BATCH):
            indices = order[start : start + _BATCH]
            rows = self._mask_logits(self.runtime.tokenize([texts[i] for i in indices]))
            for i, row in zip(indices, rows, strict=True):
                logits[i] = row
        return np.stack(logits)

    def rank(self, query: str, passages: list[str]) -> np.ndarray:
        """See `LoadedModel`."""
        return np.asarray(self.runtime.score([(query, passage) for passage in passages]))

    async def live_answer(self, text: str) -> np.ndarray:
        """Answer one text through the live batcher: one row of what `answer` returns.

        For embeddings and classification. Raises OverflowError when the batcher is full.
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

    async def live_answers(self, texts: Sequence[str]) -> np.ndarray:
        """Answer texts through the live batcher as one request; for embeddings."""
        from bertrt.errors import BusyError

        if self._batcher is None:
            self._batcher = self.runtime.batcher()
        try:
            answered = await self._batcher.amany("embed", list(texts), normalize=True)
        except BusyError as error:
            raise OverflowError(str(error)) from error
        return np.asarray(answered.answers)

    def _mask_logits(self, arrays: dict[str, Any]) -> np.ndarray:
        """Return the logits at the texts' one mask each, [B, V]."""
        return np.asarray(self.runtime.run(**arrays, masked_only=True)["logits"][:, 0])

    def _logits(self, answer: list[dict[str, Any]]) -> np.ndarray:
        """Reorder a classification's scores, best first, to the order of the labels: [2]."""
        scores = {entry["label"]: entry["score"] for entry in answer}
        return np.array([scores[label] for label in self._labels], np.float32)


def _contender(
    title: str,
    missing: Callable[[], str | None],
    *,
    packages: tuple[str, ...],
    dtype: str,
    tasks: tuple[str, ...] = TASKS,
    **target: Any,
) -> Contender:
    """A runtime on an artifact exported for a target (`device`, `engine`) in a dtype."""

    def prepare(model: Model, task: str, folder: Path) -> None:
        from bertrt.export import export

        bounds: dict[str, Any] = _UNTRAINED if dtype == "int8" and task not in model.trained else {}
        export(
            model.checkpoint(task),
            folder / "artifact",
            task=EXPORT_TASKS[task],
            dtype=dtype,
            **target,
            **bounds,
        )

    def load(model: Model, task: str, folder: Path, threads: int) -> BertrtModel:
        return BertrtModel(folder / "artifact", model, task, threads)

    return Contender(title, dtype, packages, missing, load, prepare, tasks=tasks)


def _missing_on_cpu() -> str | None:
    return packages_missing("bertrt", "onnxruntime", "torch", "transformers")


def _missing_for_triton() -> str | None:
    return cuda_missing("bertrt", "onnxruntime", "transformers", "triton")


def _missing_for_ort_cuda() -> str | None:
    return cuda_provider_missing("bertrt", "torch", "transformers")


CONTENDERS = {
    "bertrt": _contender(
        "bertrt",
        _missing_on_cpu,
        packages=("bertrt", "onnxruntime"),
        dtype="float32",
        tasks=ALL_TASKS,
    ),
    "bertrt_int8": _contender(
        "bertrt int8",
        _missing_on_cpu,
        packages=("bertrt", "onnxruntime"),
        dtype="int8",
        tasks=ALL_TASKS,
    ),
    "bertrt_cuda_ort": _contender(
        "bertrt ONNX Runtime CUDA",
        _missing_for_ort_cuda,
        packages=("bertrt", "onnxruntime-gpu"),
        dtype="float16",
        # Its fill-mask graph returns the logits of all tokens, so that task adds nothing.
        tasks=("embeddings", "classification"),
        device="cuda",
        engine="ort",
    ),
    "bertrt_cuda": _contender(
        "bertrt Triton",
        _missing_for_triton,
        packages=("bertrt", "torch", "triton"),
        dtype="float16",
        device="cuda",
        engine="triton",
    ),
    "bertrt_cuda_bfloat16": _contender(
        "bertrt Triton, bfloat16",
        _missing_for_triton,
        packages=("bertrt", "torch", "triton"),
        dtype="bfloat16",
        device="cuda",
        engine="triton",
    ),
}
