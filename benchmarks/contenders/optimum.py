"""Optimum's ONNX Runtime classes, in their own environment with an older transformers."""

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contenders.answers import OUTPUTS, BatchedTexts, finish
from benchmarks.contenders.contender import Contender
from benchmarks.contenders.requirements import packages_missing
from benchmarks.data.models import Model

__all__ = ["CONTENDERS", "OptimumModel"]

_CLASSES = {
    "embeddings": "ORTModelForFeatureExtraction",
    "classification": "ORTModelForSequenceClassification",
    "fill-mask": "ORTModelForMaskedLM",
}


class OptimumModel:
    """Optimum's class for a task, on its export; a `LoadedModel`."""

    def __init__(self, folder: Path, model: Model, task: str, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = _class(task).from_pretrained(folder, session_options=options)
        self._task = task
        self._mask_id = model.mask
        self._answer_texts = BatchedTexts(model, task, self.run)

    def run(
        self, input_ids: np.ndarray, attention_mask: np.ndarray, token_type_ids: np.ndarray
    ) -> np.ndarray:
        """See `LoadedModel`."""
        outputs = self._session(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        )
        output = outputs[OUTPUTS[self._task]]
        return finish(self._task, output, input_ids, attention_mask, self._mask_id)

    def answer(self, texts: list[str]) -> np.ndarray:
        """See `LoadedModel`."""
        return self._answer_texts(texts)


def _class(task: str) -> Any:
    from optimum import onnxruntime

    return getattr(onnxruntime, _CLASSES[task])


def _prepare(model: Model, task: str, folder: Path) -> None:
    """Export as Optimum does by default."""
    _class(task).from_pretrained(model.checkpoint(task), export=True).save_pretrained(folder)


def _load(model: Model, task: str, folder: Path, threads: int) -> OptimumModel:
    return OptimumModel(folder, model, task, threads)


CONTENDERS = {
    "optimum": Contender(
        "Optimum",
        "float32",
        ("optimum-onnx", "onnxruntime", "transformers", "torch"),
        lambda: packages_missing("optimum", "onnxruntime", "torch", "transformers"),
        _load,
        _prepare,
        environment="optimum",
    ),
}
