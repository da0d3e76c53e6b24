"""FastEmbed's cross-encoder, on a plain ONNX export, used as its documentation shows."""

import shutil
from pathlib import Path

import numpy as np

from benchmarks.contenders.contender import Contender
from benchmarks.contenders.onnx_exports import plain_export
from benchmarks.contenders.requirements import packages_missing
from benchmarks.data.models import Model

__all__ = ["CONTENDERS", "FastEmbedReranker"]

_GRAPH = "model.onnx"
_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json")
# FastEmbed knows models by their names on the hub; this one is not there.
_NAME = "local/reranker"


class FastEmbedReranker:
    """A `TextCrossEncoder` from a folder; has `rank` alone, see `LoadedModel`."""

    def __init__(self, folder: Path, threads: int) -> None:
        """Load the folder's graph and tokenizer."""
        from fastembed.common.model_description import ModelSource
        from fastembed.rerank.cross_encoder import TextCrossEncoder

        TextCrossEncoder.add_custom_model(
            model=_NAME, model_file=_GRAPH, sources=ModelSource(hf=_NAME)
        )
        self._encoder = TextCrossEncoder(_NAME, specific_model_path=str(folder), threads=threads)

    def rank(self, query: str, passages: list[str]) -> np.ndarray:
        """See `LoadedModel`; `rerank` makes batches of 64 pairs in the given order."""
        return np.array(list(self._encoder.rerank(query, passages)), np.float32)


def _missing() -> str | None:
    return packages_missing("fastembed", "onnxruntime", "onnxscript", "torch", "transformers")


def _prepare(model: Model, task: str, folder: Path) -> None:
    shutil.copyfile(plain_export(model, task, folder), folder / _GRAPH)
    for file in _FILES:
        shutil.copyfile(model.checkpoint(task) / file, folder / file)


def _load(model: Model, task: str, folder: Path, threads: int) -> FastEmbedReranker:
    return FastEmbedReranker(folder, threads)


CONTENDERS = {
    "fastembed_rerank": Contender(
        "FastEmbed",
        "float32",
        ("fastembed", "onnxruntime"),
        _missing,
        _load,
        _prepare,
        tasks=("rerank",),
    ),
}
