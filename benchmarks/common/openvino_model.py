"""A model on OpenVINO's CPU plugin: how the OpenVINO contenders convert, open and run it."""

from pathlib import Path
from typing import Any

import numpy as np

from common.answers import OUTPUTS, TextsInBatches, finish
from common.pytorch import load_model
from models import Model

__all__ = ["OpenVinoContender", "convert"]


def convert(model: Model, task: str, path: Path) -> None:
    """Convert the PyTorch module, which keeps its fused attention, to OpenVINO's IR in float32."""
    import openvino
    import torch

    ids = torch.full((2, 11), model.sep)
    module = load_model(model, task, attention="sdpa")
    converted = openvino.convert_model(
        module,
        example_input={
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "token_type_ids": torch.zeros_like(ids),
        },
    )
    openvino.save_model(converted, path, compress_to_fp16=False)


class OpenVinoContender:
    """An IR or ONNX file with a transformers model's inputs and outputs."""

    def __init__(
        self, path: Path, model: Model, task: str, threads: int, *, precision: str
    ) -> None:
        """Compile for latency; `precision` is the inference precision hint, "f32" or "bf16"."""
        import openvino

        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": precision,
        }
        compiled = openvino.Core().compile_model(str(path), "CPU", settings)
        self._output = compiled.output(OUTPUTS[task])
        self._inputs = [one.get_any_name() for one in compiled.inputs]
        self._request = compiled.create_infer_request()
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
        self._request.infer(
            {name: feeds[name] for name in self._inputs}, share_inputs=True, share_outputs=True
        )
        output = self._request.get_tensor(self._output).data
        answers = finish(self._task, output, input_ids, attention_mask, self._mask_id)
        # The request's own memory is written over by its next call.
        return answers.copy() if answers is output else answers

    def answer(self, texts: list[str]) -> np.ndarray:
        """See `contender.Contender`."""
        return self._answer_texts(texts)
