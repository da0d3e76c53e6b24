"""transformers' own ONNX exporter, with its fusions for ONNX Runtime's CPU provider."""

from pathlib import Path

from common.ort import OrtContender
from common.packages import packages_missing
from common.pytorch import load_model
from contender import TASKS as ALL
from contender import Contender
from models import Model

TITLE = "transformers.exporters"
TASKS = ALL
PRECISION = "float32"
PACKAGES = ("transformers", "onnxruntime", "torch")
ENVIRONMENT = "bench"


def missing() -> str | None:
    """Why it cannot run here."""
    if reason := packages_missing(("transformers", "onnxruntime", "onnxscript", "torch")):
        return reason
    return packages_missing(("transformers.exporters",))


def prepare(model: Model, task: str, folder: Path) -> None:
    """Export with dynamic shapes and fuse."""
    import torch
    from transformers.exporters.exporter_onnx import OnnxConfig, OnnxExporter

    ids = torch.full((2, 11), model.sep)
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    exported = OnnxExporter().export(
        load_model(model, task, attention="sdpa"),
        {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)},
        config=OnnxConfig(dynamic=True, ort_fusions="cpu"),
    )
    exported.save_pretrained(str(folder))


def load(model: Model, task: str, folder: Path, threads: int) -> Contender:
    """A session on the fused graph."""
    return OrtContender(folder / "model.onnx", model, task, threads)
