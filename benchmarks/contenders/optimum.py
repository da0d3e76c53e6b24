"""Optimum's ONNX Runtime classes, in an environment of their own with an older transformers."""

from pathlib import Path
from typing import Any

import numpy as np

from common.answers import OUTPUTS, TextsInBatches, finish
from common.packages import packages_missing
from contender import TASKS as ALL
from contender import Contender
from models import Model

TITLE = "Optimum"
TASKS = ALL
PRECISION = "float32"
PACKAGES = ("optimum-onnx", "onnxruntime", "transformers", "torch")
ENVIRONMENT = "optimum"

_CLASSES = {
    "embeddings": "ORTModelForFeatureExtraction",
    "classification": "ORTModelForSequenceClassification",
    "fill-mask": "ORTModelForMaskedLM",
}


def missing() -> str | None:
    """Why it cannot run here."""
    return packages_missing(("optimum", "onnxruntime", "torch", "transformers"))


def prepare(model: Model, task: str, folder: Path) -> None:
    """Export as Optimum does by default."""
    _class(task).from_pretrained(model.checkpoint(task), export=True).save_pretrained(folder)


def load(model: Model, task: str, folder: Path, threads: int) -> Contender:
    """The class for the task on the export."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = _class(task).from_pretrained(folder, session_options=options)
    return _Optimum(session, model, task)


def _class(task: str) -> Any:
    from optimum import onnxruntime

    return getattr(onnxruntime, _CLASSES[task])


class _Optimum:
    def __init__(self, session: Any, model: Model, task: str) -> None:
        self._session = session
        self._task = task
        self._mask_id = model.mask
        self._answer_texts = TextsInBatches(model, task, self.run)

    def run(
        self, input_ids: np.ndarray, attention_mask: np.ndarray, token_type_ids: np.ndarray
    ) -> np.ndarray:
        """See `contender.Contender`."""
        outputs = self._session(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        )
        output = outputs[OUTPUTS[self._task]]
        return finish(self._task, output, input_ids, attention_mask, self._mask_id)

    def answer(self, texts: list[str]) -> np.ndarray:
        """See `contender.Contender`."""
        return self._answer_texts(texts)
