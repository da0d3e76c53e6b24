"""Trace a head to an ONNX graph in standard operators, with named dynamic axes."""

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
import torch

from bertrt.artifact.graph_io import PAST, PRESENT
from bertrt.export.extra_outputs import has_attentions
from bertrt.export.graph.cleanup import tidy
from bertrt.export.heads import HeadSpec
from bertrt.export.tracing.torch_export import export_graph
from bertrt.export.tracing.traceable_forward import (
    Captured,
    KeyValue,
    KeyValues,
    base_model,
    traceable,
)

__all__ = ["cache_names", "has_cache", "trace"]

# Sizes of the example inputs: none is 1, which the tracer takes for a constant, and all differ.
_BATCH, _CHOICES, _PAST, _SEQUENCE = 2, 3, 5, 7


def has_cache(model: torch.nn.Module, head: HeadSpec) -> bool:
    """Whether the head's graph has a key/value cache: a language model that is a decoder."""
    return head.task == "text-generation" and bool(base_model(model).config.is_decoder)


def cache_names(prefix: str, layers: int) -> list[str]:
    """Return the names of a cache's arrays, `{prefix}.0.key`, `{prefix}.0.value` and so on.

    `prefix` is `PAST` for inputs and `PRESENT` for outputs.
    """
    return [f"{prefix}.{layer}.{part}" for layer in range(layers) for part in ("key", "value")]


def trace(
    model: torch.nn.Module,
    head: HeadSpec,
    extra_outputs: Sequence[str] = (),
    *,
    cached: bool = True,
) -> ir.Model:
    """Trace the head's forward pass to an ONNX graph of opset 23.

    Inputs are int64 `input_ids`, `attention_mask` and `token_type_ids`, [batch, sequence], or
    [batch, choices, sequence] for multiple choice. Outputs are the head's, float32; a BertModel
    without a pooler has no `pooler_output`.

    A decoder with a language model head also has float32 inputs `past_key_values.{i}.key` and
    `.value`, [batch, N, past_sequence, D], with 0 or more past tokens, and outputs
    `present.{i}.key` and `.value`, [batch, N, total_sequence, D]. Its `attention_mask` is
    [batch, total_sequence], for past and new tokens together.

    Initializers keep their PyTorch names and shapes, and tied weights are stored once.

    Args:
        model: the head's model, in eval mode. It is not changed.
        head: which head it is.
        extra_outputs: further outputs, by the names of `bertrt.export.extra_outputs`.
        cached: False for a decoder's graph without a cache, which reads a text as a whole.
    """
    config = base_model(model).config
    outputs = [name for name in head.outputs if name != "pooler_output" or base_model(model).pooler]
    past: list[KeyValue] = []
    if has_cache(model, head) and cached:
        shape = (_BATCH, config.num_attention_heads, _PAST, _head_size(config))
        past = [(torch.zeros(shape), torch.zeros(shape)) for _ in range(config.num_hidden_layers)]

    arguments: tuple[Any, ...] = _example_inputs(head, bool(past))
    axes: tuple[Any, ...] = _dynamic_axes(head, bool(past))
    if past:
        arguments = (*arguments, past)
        axes = (*axes, [_PAST_AXES] * len(past))

    cache = KeyValues()
    captured = Captured(attentions=has_attentions(extra_outputs))
    wrapper = _Positional(model, outputs, cache, captured, extra_outputs).eval()
    with traceable(model, cache, captured):
        graph = export_graph(wrapper, arguments, axes)
    _name_inputs_and_outputs(graph, [*outputs, *extra_outputs], len(past))
    tidy(graph, _parameter_names(wrapper))
    return graph


class _Positional(torch.nn.Module):
    """A head that takes positional tensors and returns a flat tuple of its outputs, in order."""

    def __init__(
        self,
        model: torch.nn.Module,
        outputs: Sequence[str],
        cache: KeyValues,
        captured: Captured,
        extra_outputs: Sequence[str],
    ) -> None:
        super().__init__()
        self.model = model
        self._outputs = outputs
        self._cache = cache
        self._captured = captured
        self._extra_outputs = extra_outputs

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        token_type_ids: torch.Tensor,
        past: Sequence[KeyValue] = (),
    ) -> tuple[torch.Tensor, ...]:
        self._cache.past = past
        result = self.model(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        )
        present = [tensor for pair in self._cache.present for tensor in pair] if past else []
        extra = [self._captured.values[name] for name in self._extra_outputs]
        return (*(result[name] for name in self._outputs), *extra, *present)


_PAST_AXES = ({0: "batch", 2: "past_sequence"}, {0: "batch", 2: "past_sequence"})


def _example_inputs(
    head: HeadSpec, cached: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    lead = (_BATCH, _CHOICES) if head.task == "multiple-choice" else (_BATCH,)
    total = _SEQUENCE + _PAST if cached else _SEQUENCE
    # Three tensors, not one three times: the tracer would take them for the same input.
    ids = torch.zeros((*lead, _SEQUENCE), dtype=torch.long)
    return ids, torch.ones((*lead, total), dtype=torch.long), torch.zeros_like(ids)


def _dynamic_axes(head: HeadSpec, cached: bool) -> tuple[dict[int, str], ...]:
    lead = ["batch", "choices"] if head.task == "multiple-choice" else ["batch"]
    ids = dict(enumerate([*lead, "sequence"]))
    mask = dict(enumerate([*lead, "total_sequence" if cached else "sequence"]))
    return ids, mask, ids


def _name_inputs_and_outputs(model: ir.Model, outputs: Sequence[str], layers: int) -> None:
    """Name the graph's inputs, outputs and dynamic axes, which are in the exporter's order."""
    inputs = ["input_ids", "attention_mask", "token_type_ids", *cache_names(PAST, layers)]
    present = cache_names(PRESENT, layers)
    for value, name in zip(model.graph.inputs, inputs, strict=True):
        value.name = name
    for value, name in zip(model.graph.outputs, [*outputs, *present], strict=True):
        value.name = name
        if name in present:
            batch, heads, _, size = value.shape
            value.shape = ir.Shape([batch, heads, "total_sequence", size])


def _parameter_names(wrapper: _Positional) -> dict[str, str]:
    """Map the exporter's name of each parameter to the model's first name for the same tensor."""
    first: dict[int, str] = {}
    names = {}
    for name, tensor in wrapper.model.named_parameters(remove_duplicate=False):
        names[f"model.{name}"] = first.setdefault(id(tensor), name)
    return names


def _head_size(config: Any) -> int:
    return int(config.hidden_size) // int(config.num_attention_heads)
