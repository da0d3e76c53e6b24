"""OpenVINO on a static int8 graph: ONNX Runtime's quantize_static, calibrated on texts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common.onnx_exports import torchscript_export
from common.openvino_model import OpenVinoContender
from common.packages import packages_missing
from contender import TASKS as ALL
from contender import Contender
from models import Model

TITLE = "OpenVINO int8"
TASKS = ALL
PRECISION = "int8"
PACKAGES = ("openvino", "onnxruntime", "torch", "transformers")
ENVIRONMENT = "bench"

_CALIBRATION_TEXTS = 64


def missing() -> str | None:
    """Why it cannot run here."""
    return packages_missing(("openvino", "onnxruntime", "onnx", "torch", "transformers"))


def prepare(model: Model, task: str, folder: Path) -> None:
    """Export, and quantize weights per channel and activations by the ranges that texts give."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    quantize_static(
        torchscript_export(model, task, folder),
        folder / "model.onnx",
        _Calibration(model, task),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8,
        op_types_to_quantize=["MatMul", "Gemm"],
        extra_options={"MatMulConstBOnly": True},
    )


def load(model: Model, task: str, folder: Path, threads: int) -> Contender:
    """A compiled model; what is not int8 computes in float32."""
    return OpenVinoContender(folder / "model.onnx", model, task, threads, precision="f32")


class _Calibration:
    """Texts other than those that are timed, one at a time, as quantize_static reads them."""

    def __init__(self, model: Model, task: str) -> None:
        self._feeds = _feeds(model, task)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)


def _feeds(model: Model, task: str) -> Iterator[dict[str, Any]]:
    from common.answers import load_tokenizer
    from corpus import mixed

    tokenizer = load_tokenizer(model.checkpoint(task))
    for text in mixed(_CALIBRATION_TEXTS, seed=1, mask=task == "fill-mask"):
        yield dict(tokenizer(text, return_tensors="np"))
