"""PyTorch on the CPU, with the models of transformers."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contenders.answers import OUTPUTS, BatchedTexts
from benchmarks.contenders.contender import Contender
from benchmarks.contenders.requirements import bfloat16_missing, packages_missing
from benchmarks.data.models import ALL_TASKS, Model

__all__ = ["CONTENDERS", "TorchModel", "load_module"]

_CLASSES = {
    "embeddings": "AutoModel",
    "classification": "AutoModelForSequenceClassification",
    "fill-mask": "AutoModelForMaskedLM",
    "sparse": "AutoModelForMaskedLM",
    "rerank": "AutoModelForSequenceClassification",
}


def load_module(
    model: Model,
    task: str,
    *,
    attention: str,
    threads: int | None = None,
    device: str = "cpu",
    dtype: str = "float32",
) -> Any:
    """Load the checkpoint with transformers, ready for inference on a device."""
    import torch
    import transformers

    if threads is not None:
        torch.set_num_threads(threads)
    head = getattr(transformers, _CLASSES[task])
    module = head.from_pretrained(
        model.checkpoint(task), attn_implementation=attention, dtype=getattr(torch, dtype)
    )
    return module.eval().to(device)


class TorchModel:
    """A loaded PyTorch module, or the result of `torch.compile`; a `LoadedModel`."""

    def __init__(
        self,
        forward: Callable[..., Any],
        model: Model,
        task: str,
        *,
        forward_varied: Callable[..., Any] | None = None,
        device: str = "cpu",
    ) -> None:
        """Serve `forward` on its device; where shapes vary, serve `forward_varied` if given."""
        self._forward = forward
        self._task = task
        self._mask_id = model.mask
        self._device = device
        # Not `or`: that would ask a module for its length, if it has one.
        varied = forward if forward_varied is None else forward_varied
        self.run_varied = partial(self._run, varied)
        self._answer_texts = BatchedTexts(model, task, self.run_varied)

    def run(
        self, input_ids: np.ndarray, attention_mask: np.ndarray, token_type_ids: np.ndarray
    ) -> np.ndarray:
        """See `LoadedModel`."""
        return self._run(self._forward, input_ids, attention_mask, token_type_ids)

    def answer(self, texts: list[str]) -> np.ndarray:
        """See `LoadedModel`."""
        return self._answer_texts(texts)

    def rank(self, query: str, passages: list[str]) -> np.ndarray:
        """See `LoadedModel`."""
        return self._answer_texts.rank(query, passages)

    def _run(self, forward: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            ids, mask, types = (torch.from_numpy(array).to(self._device) for array in arrays)
            outputs = forward(input_ids=ids, attention_mask=mask, token_type_ids=types)
            answers = self._finish(outputs[OUTPUTS[self._task]], ids, mask)
            return np.asarray(answers.float().cpu().numpy())

    def _finish(self, output: Any, ids: Any, mask: Any) -> Any:
        """Do in PyTorch what `benchmarks.contenders.answers.finish` does."""
        import torch

        if self._task == "embeddings":
            weights = mask[:, :, None].to(output.dtype)
            pooled = (output * weights).sum(1) / weights.sum(1)
            return torch.nn.functional.normalize(pooled.float(), dim=1)
        if self._task == "fill-mask":
            return output[ids == self._mask_id]
        if self._task == "sparse":
            # As SpladePooling does, in place.
            return (output * mask[:, :, None]).relu_().log1p_().amax(1)
        return output


def _contender(title: str, *, attention: str, dtype: str = "float32") -> Contender:
    """A module as transformers loads it."""

    def missing() -> str | None:
        reason = packages_missing("torch", "transformers")
        return reason or (bfloat16_missing() if dtype == "bfloat16" else None)

    def load(model: Model, task: str, folder: Path, threads: int) -> TorchModel:
        module = load_module(model, task, attention=attention, threads=threads, dtype=dtype)
        return TorchModel(module, model, task)

    return Contender(title, dtype, ("torch", "transformers"), missing, load, tasks=ALL_TASKS)


def _compile_missing() -> str | None:
    if shutil.which("g++") is None:
        return "torch.compile needs a C++ compiler, and there is no g++: install one"
    return packages_missing("torch", "transformers")


def _load_compiled(model: Model, task: str, folder: Path, threads: int) -> TorchModel:
    """Freeze the weights and compile at the first call: per fixed shape, and once for texts."""
    import torch
    import torch._dynamo
    import torch._inductor.config

    torch._dynamo.reset()
    torch._inductor.config.freezing = True
    # One graph for each shape of the benchmark; the default of 8 would leave later ones eager.
    torch._dynamo.config.recompile_limit = 64
    module = load_module(model, task, attention="sdpa", threads=threads)
    return TorchModel(
        torch.compile(module, dynamic=False),
        model,
        task,
        forward_varied=torch.compile(module, dynamic=True),
    )


CONTENDERS = {
    # PyTorch as most people run it: the baseline.
    "eager": _contender("PyTorch eager", attention="eager"),
    # Fused attention, the default of transformers.
    "sdpa": _contender("PyTorch SDPA", attention="sdpa"),
    "torch_bfloat16": _contender("PyTorch bfloat16", attention="sdpa", dtype="bfloat16"),
    "torch_compile": Contender(
        "torch.compile", "float32", ("torch", "transformers"), _compile_missing, _load_compiled
    ),
}
