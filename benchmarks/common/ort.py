"""A graph on ONNX Runtime: how the ONNX Runtime contenders open it and run it."""

from pathlib import Path
from typing import Any

import numpy as np

from common.answers import OUTPUTS, TextsInBatches, finish
from common.onnx_pooling import EMBEDDING
from models import Model

__all__ = ["OrtContender", "open_session"]


def open_session(path: Path, threads: int, provider: str = "CPUExecutionProvider") -> Any:
    """A session on one provider with every optimization on, which is the default."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=[provider])


class OrtContender:
    """A graph with a transformers model's inputs and outputs, or one that pools."""

    def __init__(
        self,
        path: Path,
        model: Model,
        task: str,
        threads: int,
        provider: str = "CPUExecutionProvider",
    ) -> None:
        """Open the graph.

        Raises RuntimeError when ONNX Runtime falls back to another provider.
        """
        self._session = open_session(path, threads, provider)
        if self._session.get_providers()[0] != provider:
            raise RuntimeError(f"ONNX Runtime cannot use {provider} here")
        self._inputs = [one.name for one in self._session.get_inputs()]
        self._pools = EMBEDDING in [one.name for one in self._session.get_outputs()]
        self._task = task
        self._mask_id = model.mask
        self._answer_texts = TextsInBatches(model, task, self.run)

    def run(
        self, input_ids: np.ndarray, attention_mask: np.ndarray, token_type_ids: np.ndarray
    ) -> np.ndarray:
        """See `contender.Contender`."""
        feeds = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
        }
        feeds = {name: feeds[name] for name in self._inputs}
        if self._pools:
            return np.asarray(self._session.run([EMBEDDING], feeds)[0])
        output = self._session.run([OUTPUTS[self._task]], feeds)[0]
        return finish(
            self._task,
            output.astype(np.float32, copy=False),
            input_ids,
            attention_mask,
            self._mask_id,
        )

    def answer(self, texts: list[str]) -> np.ndarray:
        """See `contender.Contender`."""
        return self._answer_texts(texts)
