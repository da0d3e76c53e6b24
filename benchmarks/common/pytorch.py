"""A transformers model in PyTorch: how the PyTorch contenders load it and run it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from common.answers import OUTPUTS, TextsInBatches
from models import Model

__all__ = ["TorchContender", "load_model"]

_CLASSES = {
    "embeddings": "AutoModel",
    "classification": "AutoModelForSequenceClassification",
    "fill-mask": "AutoModelForMaskedLM",
}


def load_model(
    model: Model,
    task: str,
    *,
    attention: str,
    threads: int | None = None,
    device: str = "cpu",
    dtype: str = "float32",
) -> Any:
    """The checkpoint as transformers loads it, ready for inference on a device."""
    import torch
    import transformers

    if threads is not None:
        torch.set_num_threads(threads)
    head = getattr(transformers, _CLASSES[task])
    module = head.from_pretrained(
        model.checkpoint(task), attn_implementation=attention, dtype=getattr(torch, dtype)
    )
    return module.eval().to(device)


class TorchContender:
    """A PyTorch module, or what `torch.compile` makes of one."""

    def __init__(
        self,
        forward: Callable[..., Any],
        model: Model,
        task: str,
        *,
        forward_varied: Callable[..., Any] | None = None,
        device: str = "cpu",
    ) -> None:
        """Serve `forward`, on its device; `forward_varied` instead where shapes vary, if given."""
        self._forward = forward
        self._task = task
        self._mask_id = model.mask
        self._device = device
        # Not `or`: a module may have a length, which is then asked for.
        varied = forward if forward_varied is None else forward_varied
        self.run_varied = partial(self._run, varied)
        self._answer_texts = TextsInBatches(model, task, self.run_varied)

    def run(
        self, input_ids: np.ndarray, attention_mask: np.ndarray, token_type_ids: np.ndarray
    ) -> np.ndarray:
        """See `contender.Contender`."""
        return self._run(self._forward, input_ids, attention_mask, token_type_ids)

    def answer(self, texts: list[str]) -> np.ndarray:
        """See `contender.Contender`."""
        return self._answer_texts(texts)

    def _run(self, forward: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            ids, mask, types = (torch.from_numpy(array).to(self._device) for array in arrays)
            outputs = forward(input_ids=ids, attention_mask=mask, token_type_ids=types)
            answers = self._finish(outputs[OUTPUTS[self._task]], ids, mask)
            return np.asarray(answers.float().cpu().numpy())

    def _finish(self, output: Any, ids: Any, mask: Any) -> Any:
        """As `common.answers.finish`, in PyTorch."""
        import torch

        if self._task == "embeddings":
            weights = mask[:, :, None].to(output.dtype)
            pooled = (output * weights).sum(1) / weights.sum(1)
            return torch.nn.functional.normalize(pooled.float(), dim=1)
        if self._task == "fill-mask":
            return output[ids == self._mask_id]
        return output
