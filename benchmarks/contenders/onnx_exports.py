"""Plain ONNX exports of a checkpoint, made once and shared by the contenders that need them."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.contenders.answers import OUTPUTS
from benchmarks.contenders.pytorch import load_module
from benchmarks.data.models import Model

__all__ = ["INPUTS", "optimized_export", "plain_export", "torchscript_export"]

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
# The tasks whose output has no axis of tokens.
_OF_TEXTS = ("classification", "rerank")


def plain_export(model: Model, task: str, folder: Path) -> Path:
    """Return PyTorch's default export (dynamo), with nothing fused; made beside `folder` once."""
    return _shared(folder, "plain.onnx", lambda path: _export(model, task, path, attention="sdpa"))


def torchscript_export(model: Model, task: str, folder: Path) -> Path:
    """Return PyTorch's older export of eager attention, which ONNX Runtime's tools know best."""
    return _shared(
        folder,
        "torchscript.onnx",
        lambda path: _export(model, task, path, attention="eager", dynamo=False),
    )


def optimized_export(model: Model, task: str, folder: Path, *, use_gpu: bool = False) -> Any:
    """Fuse `torchscript_export` with onnxruntime.transformers.optimizer; return its OnnxModel."""
    from onnxruntime.transformers import optimizer
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model.checkpoint(task))
    return optimizer.optimize_model(
        str(torchscript_export(model, task, folder)),
        model_type="bert",
        num_heads=config.num_attention_heads,
        hidden_size=config.hidden_size,
        opt_level=0,
        use_gpu=use_gpu,
    )


def _export(model: Model, task: str, path: Path, *, attention: str, dynamo: bool = True) -> None:
    import torch

    module = load_module(model, task, attention=attention)
    module.config.return_dict = False
    ids = torch.full((2, 11), model.sep)
    ids[:, 3] = model.mask
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    axes: dict[str, Any]
    if dynamo:
        dimensions = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence", max=512)}
        axes = {"dynamic_shapes": dict.fromkeys(INPUTS, dimensions)}
    else:
        names = {0: "batch", 1: "sequence"}
        outputs = {OUTPUTS[task]: names if task not in _OF_TEXTS else {0: "batch"}}
        axes = {"dynamic_axes": {**dict.fromkeys(INPUTS, names), **outputs}}
    with torch.no_grad():
        torch.onnx.export(
            _first_output(module),
            (ids, mask, torch.zeros_like(ids)),
            str(path),
            input_names=list(INPUTS),
            output_names=[OUTPUTS[task]],
            opset_version=20 if dynamo else 17,
            dynamo=dynamo,
            external_data=False,
            **axes,
        )


def _first_output(module: Any) -> Any:
    """Wrap a module to return only its first output, which is the one that the task reads."""
    import torch

    class First(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            return self.module(
                input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
            )[0]

    return First()


def _shared(folder: Path, name: str, write: Callable[[Path], None]) -> Path:
    """Return `name` beside `folder`, written first if it is missing; concurrent workers wait."""
    path = folder.parent / "shared" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.with_suffix(".lock")):
        if not path.exists():
            staging = path.parent / f".{name}"
            shutil.rmtree(staging, ignore_errors=True)
            staging.mkdir()
            write(staging / name)
            os.replace(staging / name, path)
            shutil.rmtree(staging)
    return path


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
