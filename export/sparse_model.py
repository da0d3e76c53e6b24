"""SPLADE in PyTorch: a masked language model whose logits are pooled into one vector a text."""

from typing import Any

import torch

__all__ = ["ACTIVATIONS", "POOLINGS", "SparseModel"]

POOLINGS = ("max", "sum")
# How often the logarithm of 1 plus the value is taken, after the relu.
ACTIVATIONS = {"relu": 1, "log1p_relu": 2}


class SparseModel(torch.nn.Module):
    """A BertForMaskedLM with sentence-transformers' SpladePooling.

    Attributes:
        bert, cls, config: those of the language model, whose weights keep their names.
        pooling: "max" or "sum" over the tokens that the attention mask counts.
        activation: a name in `ACTIVATIONS`.
    """

    def __init__(self, language_model: Any, pooling: str, activation: str) -> None:
        """Pool the logits of a BertForMaskedLM."""
        super().__init__()
        self.bert = language_model.bert
        self.cls = language_model.cls
        self.config = language_model.config
        self.pooling = pooling
        self.activation = activation
        self.eval()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Return `sparse_embedding` [B, V] of int64 tensors [B, S], by its definition."""
        hidden = self.bert(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state
        weights = torch.relu(self.cls(hidden)) * attention_mask.unsqueeze(-1)
        for _ in range(ACTIVATIONS[self.activation]):
            weights = torch.log1p(weights)
        pooled = weights.amax(dim=1) if self.pooling == "max" else weights.sum(dim=1)
        return {"sparse_embedding": pooled}
