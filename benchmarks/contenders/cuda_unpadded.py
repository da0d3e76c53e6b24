"""PyTorch on a GPU without padding: packed tokens and FlashAttention for sequences in a row."""

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
PACKAGES = ("torch", "transformers")
ENVIRONMENT = "bench"


def missing() -> str | None:
    """Why it cannot run here."""
    if reason := cuda_missing(("transformers",)):
        return reason
    if importlib.util.find_spec("torch.nn.attention.varlen") is None:
        return "this PyTorch has no torch.nn.attention.varlen: it came with 2.10"
    return None


def prepare(model: Model, task: str, folder: Path) -> None:
    """The checkpoint is used as it is."""


def load(model: Model, task: str, folder: Path, threads: int) -> Contender:
    """The module's own layers, called on packed tokens."""
    from torch.nn.attention.varlen import varlen_attn

    module = load_model(model, task, attention="sdpa", device="cuda", dtype="float16")
    return UnpaddedContender(module, model, task, varlen_attn, device="cuda")
