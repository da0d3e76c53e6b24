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
from torch.nn.functional import scaled_dot_product_attention
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndCrossAttentions

__all__ = ["Inside", "KeyValues", "base_model", "traceable"]

KeyValue = tuple[torch.Tensor, torch.Tensor]


@dataclass
class KeyValues:
    """The key/value cache of one call: what came in and what goes out, a pair for each layer.

    Keys and values are float32 [B, N, P, D] coming in and [B, N, P + S, D] going out, where P is
    the number of cached tokens.
    """

    past: Sequence[KeyValue] = ()
    present: list[KeyValue] = field(default_factory=list)


@dataclass
class Inside:
    """What one call is to show of the model's inside, and what came of it.

    `attentions` asks for attention weights, float32 [B, N, S, P + S] a layer, which makes attention
    several operators in place of one. Hidden states, float32 [B, S, H], are noted always.
    """

    attentions: bool = False
    values: dict[str, torch.Tensor] = field(default_factory=dict)


def base_model(model: torch.nn.Module) -> Any:
    """The BertModel inside a head, or the model itself when it is one."""
    return getattr(model, "bert", model)


@contextlib.contextmanager
def traceable(model: torch.nn.Module, cache: KeyValues, inside: Inside) -> Iterator[None]:
    """Give the BertModel inside `model` the traceable forward pass, and its own one back after.

    `cache` is read and filled at each call; leave it empty for a model without a cache. `inside`
    is filled at each call, by the names of `bertrt.export.tracing.extra_outputs`.
    """
    base = base_model(model)

    def forward(
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor,
        **_: object,
    ) -> BaseModelOutputWithPoolingAndCrossAttentions:
        return _forward(base, input_ids, attention_mask, token_type_ids, cache, inside)

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
    inside: Inside,
) -> BaseModelOutputWithPoolingAndCrossAttentions:
    """BertModel on int64 arrays [B, S] (the mask [B, P + S]); returns hidden states and pooled."""
    sequence = input_ids.shape[1]
    cached = cache.past[0][0].shape[2] if cache.past else 0
    positions = torch.arange(cached, cached + sequence)
    hidden = base.embeddings(
        input_ids=input_ids, token_type_ids=token_type_ids, position_ids=positions.unsqueeze(0)
    )
    mask = _mask(attention_mask, positions, cached + sequence, causal=base.config.is_decoder)
    cache.present = []
    inside.values = {"hidden_states.0": hidden}
    for index, layer in enumerate(base.encoder.layer):
        past = cache.past[index] if cache.past else None
        query, present = _project(layer.attention.self, hidden, past)
        cache.present.append(present)
        if inside.attentions:
            context, weights = _attend_openly(query, *present, mask)
            inside.values[f"attentions.{index}"] = weights
        else:
            context = scaled_dot_product_attention(query, *present, attn_mask=mask)
        context = context.transpose(1, 2).flatten(2)
        hidden = layer.feed_forward_chunk(layer.attention.output(context, hidden))
        inside.values[f"hidden_states.{index + 1}"] = hidden
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


def _project(
    attention: Any, hidden: torch.Tensor, past: KeyValue | None
) -> tuple[torch.Tensor, KeyValue]:
    """The queries of hidden states [B, S, H], and all keys and values, [B, N, S, D] each."""
    heads = (*hidden.shape[:-1], attention.num_attention_heads, attention.attention_head_size)
    query = attention.query(hidden).view(heads).transpose(1, 2)
    key = attention.key(hidden).view(heads).transpose(1, 2)
    value = attention.value(hidden).view(heads).transpose(1, 2)
    if past is not None:
        key = torch.cat([past[0], key], dim=2)
        value = torch.cat([past[1], value], dim=2)
    return query, (key, value)


def _attend_openly(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention by its definition: the context [B, N, S, D], and the weights [B, N, S, P + S]."""
    scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
    weights = torch.softmax(scores.masked_fill(~mask, torch.finfo(scores.dtype).min), dim=-1)
    return weights @ value, weights
