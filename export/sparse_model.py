"""SPLADE in PyTorch: a masked language model whose logits are pooled into one vector a text."""

from typing import Any

import torch

__all__ = ["ACTIVATIONS", "POOLINGS", "SparseModel", "SparseReference"]

POOLINGS = ("max", "sum")
# How often the logarithm of 1 plus the value is taken, after the relu.
ACTIVATIONS = {"relu": 1, "log1p_relu": 2}

# How many tokens of the vocabulary are pooled at a time in the graph. Products of half as many
# columns take up to 1.5 times as long, and larger ones are no faster (BERT-base, two threads).
_PIECE = 8192


class SparseReference(torch.nn.Module):
    """A masked language model with sentence-transformers' SpladePooling, by the definition.

    Attributes:
        language_model, config: transformers' head with logits [B, S, V], and its config.
        pooling: "max" or "sum" over the tokens that the attention mask counts.
        activation: a name in `ACTIVATIONS`.
    """

    def __init__(self, language_model: Any, pooling: str, activation: str) -> None:
        """Pool the logits of a language model."""
        super().__init__()
        self.language_model = language_model
        self.config = language_model.config
        self.pooling = pooling
        self.activation = activation
        self.eval()

    def forward(self, attention_mask: torch.Tensor, **inputs: Any) -> dict[str, Any]:
        """Return `sparse_embedding` [B, V] of int64 tensors [B, S]."""
        logits = self.language_model(attention_mask=attention_mask, **inputs).logits
        weights = _activate(logits, self.activation) * attention_mask.unsqueeze(-1)
        pooled = weights.amax(dim=1) if self.pooling == "max" else weights.sum(dim=1)
        return {"sparse_embedding": pooled}


class SparseModel(torch.nn.Module):
    """The same function as `SparseReference` for a BertForMaskedLM: this one is traced.

    It never holds all logits [B, S, V].

    Attributes:
        bert, cls, config: those of the language model, whose weights keep their names.
        pooling, activation: as there.
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
    ) -> dict[str, Any]:
        """Return `sparse_embedding` [B, V] of int64 tensors [B, S]."""
        hidden = self.bert(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state
        return {"sparse_embedding": self.pool(hidden, attention_mask)}

    def pool(self, hidden: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Pool the logits of hidden states [B, S, H] into [B, V], some of the vocabulary at a time.

        The activation grows with the logit and the bias is the same for all tokens, so both come
        after the maximum.
        """
        decoder = self.cls.predictions.decoder
        hidden = self.cls.predictions.transform(hidden)
        counted = attention_mask.to(hidden.dtype)
        if self.pooling == "max":
            # A text's first token is never padding, and once more it changes no maximum.
            hidden = torch.where(counted.unsqueeze(-1) > 0, hidden, hidden[:, :1])
        pieces = []
        for start in range(0, len(decoder.bias), _PIECE):
            piece = slice(start, start + _PIECE)
            logits, bias = hidden @ decoder.weight[piece].T, decoder.bias[piece]
            if self.pooling == "max":
                pieces.append(_activate(logits.amax(dim=1) + bias, self.activation))
            else:
                weights = _activate(logits + bias, self.activation)
                pieces.append((counted.unsqueeze(1) @ weights).squeeze(1))
        return torch.cat(pieces, dim=1)


def _activate(logits: torch.Tensor, activation: str) -> torch.Tensor:
    weights = torch.relu(logits)
    for _ in range(ACTIVATIONS[activation]):
        weights = torch.log1p(weights)
    return weights
