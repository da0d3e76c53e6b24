"""A BertModel on packed tokens: all but attention works on rows, so that padding can be left out.

What those write who serve a BERT with FlashAttention's kernels for sequences of varying length.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from common.answers import TextsInBatches
from models import Model

__all__ = ["UnpaddedContender"]


class UnpaddedContender:
    """Mean-pooled embeddings by a transformers BertModel, without arithmetic on padding."""

    def __init__(
        self, module: Any, model: Model, task: str, attend: Callable[..., Any], *, device: str
    ) -> None:
        """Serve `module`, which is on the device.

        `attend(query, key, value, offsets, offsets, longest, longest)` takes [T, N, D] of all
        sequences in a row, which offsets int32 [B + 1] tell apart, and gives the context [T, N, D].
        """
        self._module = module
        self._attend = attend
        self._device = device
        self._answer_texts = TextsInBatches(model, task, self.run)

    def run(
        self, input_ids: np.ndarray, attention_mask: np.ndarray, token_type_ids: np.ndarray
    ) -> np.ndarray:
        """See `contender.Contender`."""
        import torch

        rows = np.flatnonzero(attention_mask)
        lengths = attention_mask.sum(axis=1)
        packed = (
            input_ids.reshape(-1)[rows],
            token_type_ids.reshape(-1)[rows],
            rows % input_ids.shape[1],
        )
        with torch.inference_mode():
            ids, types, positions = (torch.from_numpy(one).to(self._device) for one in packed)
            counts = torch.from_numpy(lengths).to(self._device)
            offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0)).int()
            hidden = self._module.embeddings(
                input_ids=ids[None], token_type_ids=types[None], position_ids=positions[None]
            )[0]
            for layer in self._module.encoder.layer:
                hidden = self._layer(layer, hidden, offsets, int(lengths.max()))
            pooled = torch.segment_reduce(hidden.float(), "mean", lengths=counts)
            return np.asarray(torch.nn.functional.normalize(pooled, dim=1).cpu().numpy())

    def answer(self, texts: list[str]) -> np.ndarray:
        """See `contender.Contender`."""
        return self._answer_texts(texts)

    def _layer(self, layer: Any, hidden: Any, offsets: Any, longest: int) -> Any:
        own, heads = layer.attention.self, self._module.config.num_attention_heads
        query, key, value = (
            linear(hidden).view(len(hidden), heads, -1)
            for linear in (own.query, own.key, own.value)
        )
        context = self._attend(query, key, value, offsets, offsets, longest, longest)
        attended = layer.attention.output(context.reshape(hidden.shape), hidden)
        return layer.output(layer.intermediate(attended), attended)
