"""ColBERT in PyTorch: a BertModel, and the modules that make a token's vector of its state."""

from collections.abc import Sequence
from typing import Any

import torch

__all__ = ["MultiVectorModel"]


class MultiVectorModel(torch.nn.Module):
    """A BertModel whose hidden states go through linear layers, token by token.

    Attributes:
        bert, config: the encoder and its config; its weights keep their names.
        steps: the modules after it, in order: Dense and Normalize.
        size: the number of entries of a vector.
    """

    def __init__(self, encoder: Any, steps: Sequence[torch.nn.Module], size: int) -> None:
        """Put modules, which give vectors of `size`, behind a BertModel."""
        super().__init__()
        self.bert = encoder
        self.bert.pooler = None  # nothing reads it
        self.config = encoder.config
        self.steps = torch.nn.ModuleList(steps)
        self.size = size
        self.eval()

    @property
    def names(self) -> tuple[str, ...]:
        """The class of each module after the encoder."""
        return tuple(type(step).__name__ for step in self.steps)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Return `token_embeddings` [B, S, D] of int64 tensors [B, S], by their definition."""
        vectors = self.bert(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state
        for step in self.steps:
            vectors = step(vectors)
        return {"token_embeddings": vectors}
