"""sentence-transformers, the usual library for embeddings, used as its documentation shows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contenders.contender import Contender, LoadedModel
from benchmarks.contenders.requirements import cuda_missing, packages_missing
from benchmarks.data.models import Model

__all__ = ["CONTENDERS", "SentenceTransformerModel"]


class SentenceTransformerModel:
    """A transformer, mean pooling and normalization in a row; a `LoadedModel`."""

    def __init__(self, model: Model, task: str, threads: int, *, device: str, half: bool) -> None:
        """Load the checkpoint on a device, in float16 if `half`."""
        import torch
        from sentence_transformers import SentenceTransformer, models

        torch.set_num_threads(threads)
        transformer = models.Transformer(str(model.checkpoint(task)))
        pooling = models.Pooling(transformer.get_word_embedding_dimension(), pooling_mode="mean")
        modules = [transformer, pooling, models.Normalize()]
        self._model = SentenceTransformer(modules=modules, device=device)
        if half:
            self._model.half()
        self._device = device

    def run(
        self, input_ids: np.ndarray, attention_mask: np.ndarray, token_type_ids: np.ndarray
    ) -> np.ndarray:
        """Do what `encode` does for a batch, from token ids; see `LoadedModel`."""
        return _embed_ids(self._model, self._device, input_ids, attention_mask, token_type_ids)

    def answer(self, texts: list[str]) -> np.ndarray:
        """See `LoadedModel`; `encode` makes batches of 32 texts of similar length."""
        vectors = self._model.encode(texts, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)


def _embed_ids(model: Any, device: str, *arrays: np.ndarray) -> np.ndarray:
    """Return a model's vectors of ids, masks and token types, float32 [B, D]."""
    import torch

    names = ("input_ids", "attention_mask", "token_type_ids")
    with torch.inference_mode():
        features = {
            name: torch.from_numpy(array).to(device)
            for name, array in zip(names, arrays, strict=True)
        }
        return np.asarray(model(features)["sentence_embedding"].float().cpu().numpy())


class SparseEncoderModel:
    """A masked language model with SPLADE's maximum of log(1 + relu); a `LoadedModel`."""

    def __init__(self, model: Model, task: str, threads: int) -> None:
        """Load the checkpoint on the CPU."""
        import torch
        from sentence_transformers import SparseEncoder

        torch.set_num_threads(threads)
        self._model = SparseEncoder(str(model.checkpoint(task)), device="cpu")

    def run(
        self, input_ids: np.ndarray, attention_mask: np.ndarray, token_type_ids: np.ndarray
    ) -> np.ndarray:
        """Do what `encode` does for a batch, from token ids; see `LoadedModel`."""
        return _embed_ids(self._model, "cpu", input_ids, attention_mask, token_type_ids)

    def answer(self, texts: list[str]) -> np.ndarray:
        """See `LoadedModel`; without the sparse format, which would take longer."""
        vectors = self._model.encode(texts, convert_to_sparse_tensor=False, show_progress_bar=False)
        return np.asarray(vectors, dtype=np.float32)


class CrossEncoderModel:
    """A classifier of pairs with one label; has `rank` alone, see `LoadedModel`."""

    def __init__(self, model: Model, task: str, threads: int) -> None:
        """Load the checkpoint on the CPU."""
        import torch
        from sentence_transformers import CrossEncoder

        torch.set_num_threads(threads)
        self._model = CrossEncoder(str(model.checkpoint(task)), device="cpu")

    def rank(self, query: str, passages: list[str]) -> np.ndarray:
        """See `LoadedModel`; `predict` makes batches of 32 pairs of similar length."""
        pairs = [(query, passage) for passage in passages]
        return np.asarray(self._model.predict(pairs, show_progress_bar=False), dtype=np.float32)


def _contender(
    title: str, missing: Callable[[], str | None], *, device: str, precision: str
) -> Contender:
    def load(model: Model, task: str, folder: Path, threads: int) -> LoadedModel:
        if task == "sparse":
            return SparseEncoderModel(model, task, threads)
        if task == "rerank":
            return CrossEncoderModel(model, task, threads)
        half = precision == "float16"
        return SentenceTransformerModel(model, task, threads, device=device, half=half)

    packages = ("sentence-transformers", "torch", "transformers")
    tasks = ("embeddings", "sparse", "rerank") if device == "cpu" else ("embeddings",)
    return Contender(title, precision, packages, missing, load, tasks=tasks)


CONTENDERS = {
    "sentence_transformers": _contender(
        "sentence-transformers",
        lambda: packages_missing("sentence_transformers", "torch"),
        device="cpu",
        precision="float32",
    ),
    "cuda_sentence_transformers": _contender(
        "sentence-transformers, float16",
        lambda: cuda_missing("sentence_transformers"),
        device="cuda",
        precision="float16",
    ),
}
