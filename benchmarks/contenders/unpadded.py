"""A BertModel on packed tokens, without computing anything for padding.

All layers but attention process each token independently. This is the usual way to serve a BERT
with FlashAttention's kernels for sequences of varying length.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.contenders.answers import BatchedTexts
from benchmarks.data.models import Model

__all__ = ["UnpaddedModel"]


class UnpaddedModel:
    """Mean-pooled embeddings from a transformers BertModel on packed tokens; a `LoadedModel`."""

    def __init__(
        self, module: Any, model: Model, task: str, attend: Callable[..., Any], *, device: str
    ) -> None:
        """Serve `module`, which is on the device.

        `attend(query, key, value, offsets, offsets, longest, longest)` takes [T, N, D] of all
        sequences in a row, which offsets int32 [B + 1] delimit, and returns the context [T, N, D].
        """
        import torch

        self._module = module
        self._attend = attend
        # Query, key and value in one product, as FlashAttention's own BERT has them.
        with torch.no_grad():
            self._qkv = [
                [
                    torch.cat([getattr(linear, part) for linear in _linears(layer)])
                    for part in ("weight", "bias")
                ]
                for layer in module.encoder.layer
            ]
        self._device = device
        self._answer_texts = BatchedTexts(model, task, self.run)

    def run(
        self, input_ids: np.ndarray, attention_mask: np.ndarray, token_type_ids: np.ndarray
    ) -> np.ndarray:
        """See `LoadedModel`."""
        import torch

        rows = np.flatnonzero(attention_mask)
        lengths = attention_mask.sum(axis=1)
        packed = (
            input_ids.reshape(-1)[rows],
            token_type_ids.reshape(-1)[rows],
            rows % input_ids.shape[1],
        )
        with torch.inference_mode():
            ids, types, positions = (torch.from_numpy(array).to(self._device) for array in packed)
            counts = torch.from_numpy(lengths).to(self._device)
            offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0)).int()
            hidden = self._module.embeddings(
                input_ids=ids[None], token_type_ids=types[None], position_ids=positions[None]
            )[0]
            for layer, qkv in zip(self._module.encoder.layer, self._qkv, strict=True):
                packed = torch.nn.functional.linear(hidden, *qkv)
                hidden = self._finish(layer, hidden, packed, offsets, int(lengths.max()))
            pooled = torch.segment_reduce(hidden.float(), "mean", lengths=counts)
            return np.asarray(torch.nn.functional.normalize(pooled, dim=1).cpu().numpy())

    def answer(self, texts: list[str]) -> np.ndarray:
        """See `LoadedModel`."""
        return self._answer_texts(texts)

    def _finish(self, layer: Any, hidden: Any, packed: Any, offsets: Any, longest: int) -> Any:
        heads = self._module.config.num_attention_heads
        query, key, value = packed.view(len(hidden), 3, heads, -1).unbind(1)
        context = self._attend(query, key, value, offsets, offsets, longest, longest)
        attended = layer.attention.output(context.reshape(hidden.shape), hidden)
        return layer.output(layer.intermediate(attended), attended)


def _linears(layer: Any) -> tuple[Any, Any, Any]:
    attention = layer.attention.self
    return attention.query, attention.key, attention.value
