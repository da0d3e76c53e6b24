"""Embeddings that differ from BERT's. Their weights have the names that BERT's have."""

from typing import Any

import torch
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertEmbeddings

__all__ = ["CountedPositions", "ProjectedEmbeddings"]


class CountedPositions(BertEmbeddings):
    """Embeddings whose positions are counted by tokens, from the row after the padding id's.

    A padding token, wherever it is, has the position `padding_id`.
    """

    def __init__(self, config: BertConfig, *, padding_id: int) -> None:
        """Make the tables, with `padding_id + 1` rows before the first position."""
        super().__init__(config)
        rows = config.max_position_embeddings + padding_id + 1
        self.position_embeddings = torch.nn.Embedding(rows, config.hidden_size)
        self.padding_id = padding_id

    def forward(
        self,
        input_ids: torch.Tensor,
        token_type_ids: torch.Tensor,
        position_ids: torch.Tensor,
        past_key_values_length: int = 0,
    ) -> torch.Tensor:
        """Embed tokens int64 [B, S] that follow cached ones; `position_ids` are not read."""
        counted = (input_ids != self.padding_id).to(torch.int64)
        numbers = torch.cumsum(counted, dim=1)
        if past_key_values_length:
            numbers = numbers + past_key_values_length
        numbers = numbers * counted
        embedded: torch.Tensor = super().forward(
            input_ids=input_ids,
            token_type_ids=token_type_ids,
            position_ids=numbers + self.padding_id,
        )
        return embedded


class ProjectedEmbeddings(BertEmbeddings):
    """Embeddings of another size than the hidden states, and a linear layer between both."""

    def __init__(self, config: BertConfig, *, size: int) -> None:
        """Make tables with `size` columns."""
        super().__init__(BertConfig(**{**config.to_dict(), "hidden_size": size}))
        self.projection = torch.nn.Linear(size, config.hidden_size)

    def forward(self, **arguments: Any) -> torch.Tensor:
        """Embed tokens int64 [B, S] as BERT does, and project them to [B, S, H]."""
        projected: torch.Tensor = self.projection(super().forward(**arguments))
        return projected
