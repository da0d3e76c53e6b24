"""The forward pass that is traced: transformers' own layers, joined so that they export cleanly.

BertModel.forward builds its masks and caches with code that differs between transformers 4 and 5
and traces to a tangle of GatherND. Here the same layers, with the same weights, are called with
an explicit boolean mask and explicit positions, and attention is one call to
`scaled_dot_product_attention`, which the exporter keeps as one node. Heads run their own forward
on top. That this is the same function is not taken on trust: the parity gate compares the
exported graph with transformers' own forward pass.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndCrossAttentions

__all__ = ["KeyValues", "base_model", "traceable"]

KeyValue = tuple[torch.Tensor, torch.Tensor]


@dataclass
class KeyValues:
    """The key/value cache of one call: what came in and what goes out, a pair for each layer.

    Keys and values are float32 [B, N, P, D] coming in and [B, N, P + S, D] going out, where P is
    the number of cached tokens.
    """

    past: Sequence[KeyValue] = ()
    present: list[KeyValue] = field(default_factory=list)


def base_model(model: torch.nn.Module) -> Any:
    """The BertModel inside a head, or the model itself when it is one."""
    return getattr(model, "bert", model)


@contextlib.contextmanager
def traceable(model: torch.nn.Module, cache: KeyValues) -> Iterator[None]:
    """Give the BertModel inside `model` the traceable forward pass, and its own one back after.

    `cache` is read and filled at each call; leave it empty for a model without a cache.
    """
    base = base_model(model)

    def forward(
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor,
        **_: object,
    ) -> BaseModelOutputWithPoolingAndCrossAttentions:
        return _forward(base, input_ids, attention_mask, token_type_ids, cache)

    base.forward = forward
    try:
        yield
    finally:
        del base.forward


def _forward(
    base: Any,
    input_ids: torch.Tensor,
    attention_mask: torch.Tensor,
    token_type_ids: torch.Tensor,
    cache: KeyValues,
) -> BaseModelOutputWithPoolingAndCrossAttentions:
    """BertModel on int64 arrays [B, S] (the mask [B, P + S]); returns hidden states and pooled."""
    sequence = input_ids.shape[1]
    past = cache.past[0][0].shape[2] if cache.past else 0
    positions = torch.arange(past, past + sequence)
    hidden = base.embeddings(
        input_ids=input_ids, token_type_ids=token_type_ids, position_ids=positions.unsqueeze(0)
    )
    mask = _mask(attention_mask, positions, past + sequence, causal=base.config.is_decoder)
    cache.present = []
    for index, layer in enumerate(base.encoder.layer):
        context, present = _attend(
            layer.attention.self, hidden, mask, cache.past[index] if cache.past else None
        )
        cache.present.append(present)
        hidden = layer.feed_forward_chunk(layer.attention.output(context, hidden))
    return BaseModelOutputWithPoolingAndCrossAttentions(
        last_hidden_state=hidden,
        pooler_output=None if base.pooler is None else base.pooler(hidden),
    )


def _mask(
    attention_mask: torch.Tensor, positions: torch.Tensor, total: int, *, causal: bool
) -> torch.Tensor:
    """True where a query may look at a key: bool [B, 1, S, P + S].

    Every row is written out, though rows of an encoder are equal: ONNX Runtime's CPU kernel for
    Attention refuses a mask [B, 1, 1, S].
    """
    mask = attention_mask.bool().unsqueeze(1).unsqueeze(1)
    if causal:
        return mask & (torch.arange(total) <= positions.unsqueeze(1))
    return mask.expand(attention_mask.shape[0], 1, positions.shape[0], total)


def _attend(
    attention: Any, hidden: torch.Tensor, mask: torch.Tensor, past: KeyValue | None
) -> tuple[torch.Tensor, KeyValue]:
    """Self-attention on [B, S, H]: the context [B, S, H], and the keys and values of this call."""
    heads = (*hidden.shape[:-1], attention.num_attention_heads, attention.attention_head_size)
    query = attention.query(hidden).view(heads).transpose(1, 2)
    key = attention.key(hidden).view(heads).transpose(1, 2)
    value = attention.value(hidden).view(heads).transpose(1, 2)
    if past is not None:
        key = torch.cat([past[0], key], dim=2)
        value = torch.cat([past[1], value], dim=2)
    context = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return context.transpose(1, 2).flatten(2), (key, value)
