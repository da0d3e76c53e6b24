"""PyTorch on a GPU without padding: packed tokens and FlashAttention for sequences in a row.

PyTorch's own, or the package flash-attn where PyTorch has none yet.
"""

import importlib.util
from pathlib import Path

from common.cuda import cuda_missing
from common.pytorch import load_model
from common.unpadded import UnpaddedContender
from contender import Contender
from models import Model

TITLE = "PyTorch unpadded FlashAttention"
TASKS = ("embeddings",)
PRECISION = "float16"
PACKAGES = ("torch", "transformers", "flash-attn")
ENVIRONMENT = "bench"
_OWN = "torch.nn.attention.varlen"


def missing() -> str | None:
    """Why it cannot run here."""
    if reason := cuda_missing(("transformers",)):
        return reason
    if not any(importlib.util.find_spec(module) for module in (_OWN, "flash_attn")):
        return f"this PyTorch has no {_OWN}, which came with 2.10, and there is no flash_attn"
    return None


def prepare(model: Model, task: str, folder: Path) -> None:
    """The checkpoint is used as it is."""


def load(model: Model, task: str, folder: Path, threads: int) -> Contender:
    """The module's own layers, called on packed tokens."""
    if importlib.util.find_spec(_OWN):
        from torch.nn.attention.varlen import varlen_attn as attend
    else:
        from flash_attn import flash_attn_varlen_func as attend
    module = load_model(model, task, attention="sdpa", device="cuda", dtype="float16")
    return UnpaddedContender(module, model, task, attend, device="cuda")
