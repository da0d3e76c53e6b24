"""OpenVINO on its CPU plugin."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contenders.answers import OUTPUTS, BatchedTexts, finish, load_tokenizer
from benchmarks.contenders.contender import Contender
from benchmarks.contenders.onnx_exports import torchscript_export
from benchmarks.contenders.pytorch import load_module
from benchmarks.contenders.requirements import bfloat16_missing, packages_missing
from benchmarks.data.models import TASKS, Model

__all__ = ["CONTENDERS", "OpenVinoModel", "convert"]

_CALIBRATION_TEXTS = 64


class OpenVinoModel:
    """An IR or ONNX file with the inputs and outputs of a transformers model; a `LoadedModel`."""

    def __init__(self, path: Path, model: Model, task: str, threads: int, *, hint: str) -> None:
        """Compile for latency; `hint` is the inference precision hint, "f32" or "bf16"."""
        import openvino

        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": hint,
        }
        compiled = openvino.Core().compile_model(str(path), "CPU", settings)
        self._output = compiled.output(OUTPUTS[task])
        self._inputs = [entry.get_any_name() for entry in compiled.inputs]
        self._request = compiled.create_infer_request()
        self._task = task
        self._mask_id = model.mask
        self._answer_texts = BatchedTexts(model, task, self.run)

    def run(
        self, input_ids: np.ndarray, attention_mask: np.ndarray, token_type_ids: np.ndarray
    ) -> np.ndarray:
        """See `LoadedModel`."""
        arrays = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "token_type_ids": token_type_ids,
        }
        self._request.infer(
            {name: arrays[name] for name in self._inputs}, share_inputs=True, share_outputs=True
        )
        output = self._request.get_tensor(self._output).data
        answers = finish(self._task, output, input_ids, attention_mask, self._mask_id)
        # The request's next call overwrites its output memory.
        return answers.copy() if answers is output else answers

    def answer(self, texts: list[str]) -> np.ndarray:
        """See `LoadedModel`."""
        return self._answer_texts(texts)

    def rank(self, query: str, passages: list[str]) -> np.ndarray:
        """See `LoadedModel`."""
        return self._answer_texts.rank(query, passages)


def _contender(
    title: str,
    *needs: str,
    precision: str,
    write: Callable[[Model, str, Path], None],
    file: str = "model.xml",
    hint: str = "f32",
    packages: tuple[str, ...] = ("openvino", "torch", "transformers"),
    tasks: tuple[str, ...] = TASKS,
) -> Contender:
    """A compiled model from the file that `write(model, task, path)` makes."""

    def missing() -> str | None:
        reason = packages_missing("openvino", "torch", "transformers", *needs)
        return reason or (bfloat16_missing() if precision == "bfloat16" else None)

    def prepare(model: Model, task: str, folder: Path) -> None:
        write(model, task, folder / file)

    def load(model: Model, task: str, folder: Path, threads: int) -> OpenVinoModel:
        return OpenVinoModel(folder / file, model, task, threads, hint=hint)

    return Contender(title, precision, packages, missing, load, prepare, tasks=tasks)


def convert(model: Model, task: str, path: Path) -> None:
    """Convert the PyTorch module, with its fused attention, to OpenVINO's IR in float32."""
    import openvino
    import torch

    ids = torch.full((2, 11), model.sep)
    module = load_module(model, task, attention="sdpa")
    converted = openvino.convert_model(
        module,
        example_input={
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "token_type_ids": torch.zeros_like(ids),
        },
    )
    openvino.save_model(converted, path, compress_to_fp16=False)


def _quantize_static(model: Model, task: str, path: Path) -> None:
    """Quantize with ONNX Runtime's quantize_static: weights per channel, activations calibrated."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    quantize_static(
        torchscript_export(model, task, path.parent),
        path,
        _CalibrationReader(model, task),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8,
        op_types_to_quantize=["MatMul", "Gemm"],
        extra_options={"MatMulConstBOnly": True},
    )


class _CalibrationReader:
    """Inputs one text at a time, as quantize_static reads them; not the texts that are timed."""

    def __init__(self, model: Model, task: str) -> None:
        self._inputs = _calibration_inputs(model, task)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._inputs, None)


def _calibration_inputs(model: Model, task: str) -> Iterator[dict[str, Any]]:
    # Imported here, because it imports bertrt, which is not part of this contender's memory.
    from benchmarks.data.corpus import mixed

    tokenizer = load_tokenizer(model.checkpoint(task))
    for text in mixed(_CALIBRATION_TEXTS, seed=1, mask=task == "fill-mask"):
        yield dict(tokenizer(text, return_tensors="np"))


CONTENDERS = {
    "openvino_float32": _contender(
        "OpenVINO float32", precision="float32", write=convert, tasks=(*TASKS, "rerank")
    ),
    # The weights stay in float32 until the model is compiled.
    "openvino_bfloat16": _contender(
        "OpenVINO bfloat16", precision="bfloat16", write=convert, hint="bf16"
    ),
    "openvino_int8": _contender(
        "OpenVINO int8",
        "onnxruntime",
        "onnx",
        precision="int8",
        write=_quantize_static,
        file="model.onnx",
        packages=("openvino", "onnxruntime", "torch", "transformers"),
    ),
}
