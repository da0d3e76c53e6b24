"""ONNX Runtime, on graphs from PyTorch, from ONNX Runtime's tools, and from transformers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contenders.answers import OUTPUTS, BatchedTexts, finish
from benchmarks.contenders.contender import Contender
from benchmarks.contenders.onnx_exports import optimized_export, plain_export, torchscript_export
from benchmarks.contenders.onnx_pooling import EMBEDDING, add_mean_pooling
from benchmarks.contenders.pytorch import load_module
from benchmarks.contenders.requirements import cuda_provider_missing, packages_missing
from benchmarks.data.models import TASKS, Model

__all__ = ["CONTENDERS", "OrtModel"]

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"


class OrtModel:
    """A graph with the inputs and outputs of a transformers model, or with pooling.

    A `LoadedModel`. The session has all of ONNX Runtime's optimizations, which is its default.
    """

    def __init__(
        self, path: Path, model: Model, task: str, threads: int, provider: str = _CPU
    ) -> None:
        """Open the graph.

        Raises RuntimeError when ONNX Runtime falls back to another provider.
        """
        self._session = _open_session(path, threads, provider)
        if self._session.get_providers()[0] != provider:
            raise RuntimeError(f"ONNX Runtime cannot use {provider} here")
        self._inputs = [entry.name for entry in self._session.get_inputs()]
        self._pools = EMBEDDING in [entry.name for entry in self._session.get_outputs()]
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
        inputs = {name: arrays[name] for name in self._inputs}
        if self._pools:
            return np.asarray(self._session.run([EMBEDDING], inputs)[0])
        output = self._session.run([OUTPUTS[self._task]], inputs)[0]
        return finish(
            self._task,
            output.astype(np.float32, copy=False),
            input_ids,
            attention_mask,
            self._mask_id,
        )

    def answer(self, texts: list[str]) -> np.ndarray:
        """See `LoadedModel`."""
        return self._answer_texts(texts)

    def rank(self, query: str, passages: list[str]) -> np.ndarray:
        """See `LoadedModel`."""
        return self._answer_texts.rank(query, passages)


def _open_session(path: Path, threads: int, provider: str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=[provider])


def _contender(
    title: str,
    *needs: str,
    graph: Callable[[Model, str, Path], Path],
    precision: str = "float32",
    packages: tuple[str, ...] = ("onnxruntime", "torch", "transformers"),
    provider: str = _CPU,
    tasks: tuple[str, ...] = TASKS,
) -> Contender:
    """A session on the graph that `graph(model, task, folder)` makes, or finds once it is made."""

    def missing() -> str | None:
        if provider == _CUDA:
            return cuda_provider_missing("torch", "transformers", *needs)
        return packages_missing("onnxruntime", "torch", "transformers", *needs)

    def prepare(model: Model, task: str, folder: Path) -> None:
        graph(model, task, folder)

    def load(model: Model, task: str, folder: Path, threads: int) -> OrtModel:
        return OrtModel(graph(model, task, folder), model, task, threads, provider)

    return Contender(title, precision, packages, missing, load, prepare, tasks=tasks)


def _in_folder(
    write: Callable[[Model, str, Path, Path], None],
) -> Callable[[Model, str, Path], Path]:
    """Make model.onnx in the contender's folder with `write(model, task, folder, path)`, once."""

    def graph(model: Model, task: str, folder: Path) -> Path:
        path = folder / "model.onnx"
        if not path.exists():
            write(model, task, folder, path)
        return path

    return graph


def _optimize(model: Model, task: str, folder: Path, path: Path) -> None:
    optimized_export(model, task, folder).save_model_to_file(str(path))


def _quantize_dynamic(model: Model, task: str, folder: Path, path: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(plain_export(model, task, folder), path)


def _optimize_for_cuda(model: Model, task: str, folder: Path, path: Path) -> None:
    optimized = optimized_export(model, task, folder, use_gpu=True)
    optimized.convert_float_to_float16(keep_io_types=True)
    if task == "embeddings":
        add_mean_pooling(optimized.model)
    optimized.save_model_to_file(str(path))


def _export_with_transformers(model: Model, task: str, folder: Path, path: Path) -> None:
    import torch
    from transformers.exporters.exporter_onnx import OnnxConfig, OnnxExporter

    ids = torch.full((2, 11), model.sep)
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    exported = OnnxExporter().export(
        load_module(model, task, attention="sdpa"),
        {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)},
        config=OnnxConfig(dynamic=True, ort_fusions="cpu"),
    )
    exported.save_pretrained(str(folder))


CONTENDERS = {
    # PyTorch's default export.
    "ort_plain": _contender(
        "ONNX Runtime", "onnxscript", graph=plain_export, tasks=(*TASKS, "rerank")
    ),
    # PyTorch's older export.
    "ort_torchscript": _contender(
        "ONNX Runtime, TorchScript export", "onnx", graph=torchscript_export
    ),
    # Fused by ONNX Runtime's own tool, onnxruntime.transformers.optimizer.
    "ort_optimizer": _contender(
        "ONNX Runtime, transformers optimizer", "onnx", graph=_in_folder(_optimize)
    ),
    # quantize_dynamic with its defaults, the usual way to make BERT faster.
    "ort_quantize_dynamic": _contender(
        "ONNX Runtime, quantize_dynamic",
        "onnx",
        "onnxscript",
        graph=_in_folder(_quantize_dynamic),
        precision="int8",
        tasks=(*TASKS, "rerank"),
    ),
    # transformers' own exporter, with its fusions for ONNX Runtime's CPU provider.
    "transformers_exporters": _contender(
        "transformers.exporters",
        "onnxscript",
        "transformers.exporters",
        graph=_in_folder(_export_with_transformers),
        packages=("transformers", "onnxruntime", "torch"),
    ),
    # Fused by ONNX Runtime's own tool, rounded to float16, with pooling added.
    "cuda_ort": _contender(
        "ONNX Runtime CUDA, transformers optimizer",
        "onnx",
        graph=_in_folder(_optimize_for_cuda),
        precision="float16",
        packages=("onnxruntime-gpu", "torch", "transformers"),
        provider=_CUDA,
    ),
}
