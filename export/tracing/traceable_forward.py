"""The forward pass that is traced: transformers' layers, called so that they export cleanly.

BertModel.forward builds its masks and caches with code that differs between transformers 4 and 5
and traces to many GatherND nodes. Here the same layers, with the same weights, are called with an
explicit boolean mask and explicit positions, and attention is one call to
`scaled_dot_product_attention`, which torch.onnx.export keeps as one node. Heads run their own
forward pass on the result. The parity check (`bertrt.export.parity`) proves that this is the same
function: it compares the exported graph with transformers' own forward pass.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.modeling_outputs import BaseModelOutputWithPoolingAndCrossAttentions

from bertrt.artifact.graph_io import ATTENTIONS, HIDDEN_STATES

__all__ = ["Captured", "KeyValue", "KeyValues", "base_model", "traceable"]

# The keys and values of one layer.
KeyValue = tuple[torch.Tensor, torch.Tensor]


@dataclass
class KeyValues:
    """The key/value cache of one call, a pair for each layer.

    Attributes:
        past: the call's input, float32 [B, N, P, D] with P cached tokens.
        present: the call's output, float32 [B, N, P + S, D].
    """

    past: Sequence[KeyValue] = ()
    present: list[KeyValue] = field(default_factory=list)


@dataclass
class Captured:
    """The intermediate values of one call.

    Attributes:
        attentions: whether to capture attention weights, float32 [B, N, S, P + S] a layer.
            Attention is then several operators instead of one.
        values: the captured values by their output names. Hidden states, float32 [B, S, H], are
            always captured.
    """

    attentions: bool = False
    values: dict[str, torch.Tensor] = field(default_factory=dict)


def base_model(model: torch.nn.Module) -> Any:
    """Return the BertModel of a head, or the model itself if it is one."""
    return getattr(model, "bert", model)


@contextlib.contextmanager
def traceable(model: torch.nn.Module, cache: KeyValues, captured: Captured) -> Iterator[None]:
    """Give the BertModel of `model` the traceable forward pass, and restore its own afterwards.

    Args:
        model: the head's model.
        cache: read and filled at each call; empty for a model without a cache.
        captured: filled at each call, by the names of `bertrt.export.extra_outputs`.
    """
    base = base_model(model)

    def forward(
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor,
        **_: object,
    ) -> BaseModelOutputWithPoolingAndCrossAttentions:
        return _forward(base, input_ids, attention_mask, token_type_ids, cache, captured)

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
    captured: Captured,
) -> BaseModelOutputWithPoolingAndCrossAttentions:
    """Run a BertModel on int64 tensors [B, S], with the mask [B, P + S].

    An encoder may have a `relative_attention_bias`, which is added to the scores of every layer.
    """
    sequence = input_ids.shape[1]
    cached = cache.past[0][0].shape[2] if cache.past else 0
    positions = torch.arange(cached, cached + sequence)
    hidden = base.embeddings(
        input_ids=input_ids,
        token_type_ids=token_type_ids,
        position_ids=positions.unsqueeze(0),
        past_key_values_length=cached,
    )
    bias = getattr(base.encoder, "relative_attention_bias", None)
    if bias is None:
        mask = _mask(attention_mask, positions, cached + sequence, causal=base.config.is_decoder)
    else:
        mask = bias(positions, positions) + _padding_bias(attention_mask)
    cache.present = []
    captured.values = {f"{HIDDEN_STATES}.0": hidden}
    for index, layer in enumerate(base.encoder.layer):
        past = cache.past[index] if cache.past else None
        query, present = _project(layer.attention.self, hidden, past)
        cache.present.append(present)
        if captured.attentions:
            context, weights = _attend_with_weights(query, *present, mask)
            captured.values[f"{ATTENTIONS}.{index}"] = weights
        else:
            context = scaled_dot_product_attention(query, *present, attn_mask=mask)
        context = context.transpose(1, 2).flatten(2)
        hidden = layer.feed_forward_chunk(layer.attention.output(context, hidden))
        captured.values[f"{HIDDEN_STATES}.{index + 1}"] = hidden
    return BaseModelOutputWithPoolingAndCrossAttentions(
        last_hidden_state=hidden,
        pooler_output=None if base.pooler is None else base.pooler(hidden),
    )


def _mask(
    attention_mask: torch.Tensor, positions: torch.Tensor, total: int, *, causal: bool
) -> torch.Tensor:
    """Return the mask bool [B, 1, S, P + S], True where a query may attend to a key.

    An encoder's mask is expanded to every query, though its rows are equal: ONNX Runtime's CPU
    kernel for Attention refuses a mask [B, 1, 1, S].
    """
    mask = attention_mask.bool().unsqueeze(1).unsqueeze(1)
    if causal:
        return mask & (torch.arange(total) <= positions.unsqueeze(1))
    return mask.expand(attention_mask.shape[0], 1, positions.shape[0], total)


def _padding_bias(attention_mask: torch.Tensor) -> torch.Tensor:
    """Return what hides padding, float32 [B, 1, 1, S]: 0 for a token, the lowest for padding."""
    mask = attention_mask.bool().unsqueeze(1).unsqueeze(1)
    return torch.where(mask, 0.0, torch.finfo(torch.float32).min)


def _project(
    attention: Any, hidden: torch.Tensor, past: KeyValue | None
) -> tuple[torch.Tensor, KeyValue]:
    """Return the queries of hidden states [B, S, H], and all keys and values, [B, N, S, D] each."""
    heads = (*hidden.shape[:-1], attention.num_attention_heads, attention.attention_head_size)
    query = attention.query(hidden).view(heads).transpose(1, 2)
    key = attention.key(hidden).view(heads).transpose(1, 2)
    value = attention.value(hidden).view(heads).transpose(1, 2)
    if past is not None:
        key = torch.cat([past[0], key], dim=2)
        value = torch.cat([past[1], value], dim=2)
    return query, (key, value)


def _attend_with_weights(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return attention's context [B, N, S, D] and weights [B, N, S, P + S], by its definition.

    The mask is bool, or what is added to the scores.
    """
    scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5
    if mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    else:
        scores = scores + mask
    weights = torch.softmax(scores, dim=-1)
    return weights @ value, weights
