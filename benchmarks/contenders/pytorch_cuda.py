"""PyTorch on an NVIDIA GPU in float16, with the models of transformers."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.contenders.contender import Contender, LoadedModel
from benchmarks.contenders.cuda_graphs import CudaGraphModule
from benchmarks.contenders.pytorch import TorchModel, load_module
from benchmarks.contenders.requirements import cuda_missing
from benchmarks.contenders.unpadded import UnpaddedModel
from benchmarks.data.models import TASKS, Model

__all__ = ["CONTENDERS"]

_VARLEN = "torch.nn.attention.varlen"

# From the module that transformers loads, the model and the task to the model to serve.
Wrap = Callable[[Any, Model, str], LoadedModel]


def _contender(
    title: str,
    *,
    attention: str = "sdpa",
    wrap: Wrap,
    also_missing: Callable[[], str | None] = lambda: None,
    packages: tuple[str, ...] = ("torch", "transformers"),
    tasks: tuple[str, ...] = TASKS,
) -> Contender:
    """A float16 module on the GPU, served by what `wrap` makes of it."""

    def missing() -> str | None:
        return cuda_missing("transformers") or also_missing()

    def load(model: Model, task: str, folder: Path, threads: int) -> LoadedModel:
        module = load_module(model, task, attention=attention, device="cuda", dtype="float16")
        return wrap(module, model, task)

    return Contender(title, "float16", packages, missing, load, tasks=tasks)


def _plain(module: Any, model: Model, task: str) -> LoadedModel:
    return TorchModel(module, model, task, device="cuda")


def _with_cudnn(module: Any, model: Model, task: str) -> LoadedModel:
    """Let SDPA take cuDNN's attention where it can: on a Hopper GPU it is not the default."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    backends = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION]
    # For the masks of padded batches, if cuDNN does not take them.
    backends += [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]

    def forward(**inputs: Any) -> Any:
        with sdpa_kernel(backends, set_priority=True):
            return module(**inputs)

    return TorchModel(forward, model, task, device="cuda")


def _graphed(module: Any, model: Model, task: str) -> LoadedModel:
    """Capture a CUDA graph at the first call of each shape."""
    return TorchModel(CudaGraphModule(module), model, task, device="cuda")


def _compiled(module: Any, model: Model, task: str) -> LoadedModel:
    """Compile for each shape with max-autotune, which replays CUDA graphs.

    Where shapes vary, compile once for all of them, which does not use CUDA graphs.
    """
    import torch
    import torch._dynamo

    torch._dynamo.reset()
    # One graph for each shape of the benchmark; the default of 8 would leave later ones eager.
    torch._dynamo.config.recompile_limit = 64
    return TorchModel(
        torch.compile(module, mode="max-autotune", dynamic=False),
        model,
        task,
        forward_varied=torch.compile(module, dynamic=True),
        device="cuda",
    )


def _unpadded(module: Any, model: Model, task: str) -> LoadedModel:
    """Call the module's layers on packed tokens, with PyTorch's FlashAttention or flash-attn's."""
    if importlib.util.find_spec(_VARLEN):
        from torch.nn.attention.varlen import varlen_attn as attend
    else:
        from flash_attn import flash_attn_varlen_func as attend
    return UnpaddedModel(module, model, task, attend, device="cuda")


def _cudnn_missing() -> str | None:
    import torch

    if torch.backends.cudnn.is_available():
        return None
    return f"PyTorch {torch.__version__} here has no cuDNN"


def _varlen_missing() -> str | None:
    if any(importlib.util.find_spec(module) for module in (_VARLEN, "flash_attn")):
        return None
    return f"this PyTorch has no {_VARLEN}, which came with 2.10, and there is no flash_attn"


CONTENDERS = {
    # PyTorch as most people run it on a GPU: the baseline there.
    "cuda_eager": _contender("PyTorch eager, float16", attention="eager", wrap=_plain),
    "cuda_sdpa": _contender("PyTorch SDPA, float16", wrap=_plain),
    "cuda_cudnn": _contender(
        "PyTorch SDPA by cuDNN, float16", wrap=_with_cudnn, also_missing=_cudnn_missing
    ),
    "cuda_compile": _contender("torch.compile, max-autotune", wrap=_compiled),
    "cuda_graphs": _contender("PyTorch SDPA, CUDA graphs", wrap=_graphed),
    "cuda_unpadded": _contender(
        "PyTorch unpadded FlashAttention",
        wrap=_unpadded,
        also_missing=_varlen_missing,
        packages=("torch", "transformers", "flash-attn"),
        tasks=("embeddings",),
    ),
}
