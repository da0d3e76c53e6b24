"""Tiny models, their traced graphs, and helpers to run graphs, for all tests of graphs.

The fixture `graphs` loads this module once per process, so that each head is traced once.
"""

import functools
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import torch
import transformers

from bertrt.export.heads import HEADS, HeadSpec
from bertrt.export.tracing.trace import trace
from bertrt.export.vector_modules import Normalize, VectorModules

LONGEST = 40
FIELDS = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 37,
    "max_position_embeddings": LONGEST,
    "pad_token_id": 0,
}


def head_of(class_name: str) -> HeadSpec:
    return next(head for head in HEADS if head.class_name == class_name)


def vectors_of(class_name: str, *pooling: str) -> VectorModules | None:
    """Return what makes unit vectors of hidden states, by the mean; None for other heads."""
    if class_name != "BertModel":
        return None
    pooling = pooling or ("mean",)
    return VectorModules(pooling, [Normalize()], FIELDS["hidden_size"] * len(pooling))


@functools.cache
def model_of(class_name: str, **changes: Any) -> Any:
    """Return a random model, with eager attention, whose answers differ between tokens."""
    fields = {**FIELDS, "is_decoder": class_name == "BertLMHeadModel", **changes}
    config = transformers.BertConfig(**fields, attn_implementation="eager")
    torch.manual_seed(7)
    options = {"add_pooling_layer": False} if changes.get("architectures") == ("bare",) else {}
    model = getattr(transformers, class_name)(config, **options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


@functools.cache
def _traced(class_name: str, cached: bool, **changes: Any) -> ir.Model:
    return trace(model_of(class_name, **changes), head_of(class_name), cached=cached)


def traced(class_name: str, *, cached: bool = True, **changes: Any) -> ir.Model:
    """Return a copy of the head's traced graph; `cached` is for decoders."""
    decoder = class_name == "BertLMHeadModel"
    return _traced(class_name, cached or not decoder, **changes).clone()


def random_inputs(
    class_name: str, batch: int, sequence: int, *, cached: bool = True, **changes: Any
) -> dict[str, np.ndarray]:
    """Return random inputs, right-padded in all rows but the first; decoders get an empty cache."""
    config = model_of(class_name, **changes).config
    random = np.random.default_rng(batch * 1000 + sequence)
    shape = (batch, 3, sequence) if class_name == "BertForMultipleChoice" else (batch, sequence)
    mask = np.ones(shape, dtype=np.int64)
    for row in range(1, batch):
        mask[row, ..., max(1, sequence - 2 * row) :] = 0
    inputs = {
        "input_ids": random.integers(0, config.vocab_size, shape),
        "attention_mask": mask,
        "token_type_ids": random.integers(0, config.type_vocab_size, shape),
    }
    if class_name == "BertLMHeadModel" and config.is_decoder and cached:
        size = config.hidden_size // config.num_attention_heads
        empty = np.zeros((batch, config.num_attention_heads, 0, size), dtype=np.float32)
        for layer in range(config.num_hidden_layers):
            inputs[f"past_key_values.{layer}.key"] = empty
            inputs[f"past_key_values.{layer}.value"] = empty
    return inputs


def run(
    model: ir.Model, inputs: dict[str, np.ndarray], level: str = "ORT_DISABLE_ALL"
) -> dict[str, np.ndarray]:
    """Run a graph and return its outputs by name; by default without ONNX Runtime's optimizer."""
    session = open_session(model, level)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def open_session(model: ir.Model, level: str) -> ort.InferenceSession:
    """Open a session on a graph, with one of ONNX Runtime's optimization levels."""
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    data = ir.to_proto(model).SerializeToString()
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def eager(class_name: str, inputs: dict[str, np.ndarray], **changes: Any) -> dict[str, np.ndarray]:
    """Run transformers' own forward pass on the same inputs."""
    model = model_of(class_name, **changes)
    names = ("input_ids", "attention_mask", "token_type_ids")
    options = {"use_cache": False} if class_name == "BertLMHeadModel" else {}
    with torch.inference_mode():
        outputs = model(**{name: torch.from_numpy(inputs[name]) for name in names}, **options)
    return {name: value.numpy() for name, value in outputs.items()}


def operators(model: ir.Model) -> list[str]:
    """Return the graph's operators in order, those of other domains as `domain::Operator`."""
    return [f"{node.domain}::{node.op_type}".removeprefix("::") for node in model.graph]
