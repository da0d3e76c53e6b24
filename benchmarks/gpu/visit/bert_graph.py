"""A BertModel as a graph for the Triton engine, without the exporter.

The exporter needs a version of PyTorch that a machine with a GPU may not have. This writes the part
of its graph that makes `sentence_embedding` (a unit mean) and `last_hidden_state`.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bertrt.kernels.ops.operator import DOMAIN, VERSION

__all__ = ["write_graph"]


class _Writer:
    """Collects a graph's nodes and weights."""

    def __init__(self, state: dict[str, np.ndarray], dtype: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self._state, self._dtype = state, dtype

    def node(self, op_type: str, inputs: list[str], *outputs: str, **attributes: Any) -> str:
        """Add a node; return its first output."""
        proto = helper.make_node(op_type, inputs, outputs, domain=DOMAIN, **attributes)
        self.nodes.append(proto)
        return outputs[0]

    def weight(self, name: str) -> str:
        """Add a weight of the checkpoint under its own name."""
        return self._store(name, self._state[name])

    def linear(self, scope: str, *layers: str) -> tuple[str, str]:
        """Add the weight [K, N] and the bias [N] of linear layers, side by side."""
        weights, biases = (
            [self._state[f"{scope}.{layer}.{part}"] for layer in layers]
            for part in ("weight", "bias")
        )
        name = f"{scope}.{layers[0]}"
        return (
            self._store(f"{name}.weight", np.concatenate(weights).T),
            self._store(f"{name}.bias", np.concatenate(biases)),
        )

    def norm(self, name: str) -> list[str]:
        """Add a LayerNorm's gamma and beta."""
        return [self.weight(f"{name}.weight"), self.weight(f"{name}.bias")]

    def _store(self, name: str, array: np.ndarray) -> str:
        self.weights[name] = np.ascontiguousarray(array).astype(self._dtype)
        return name


def write_graph(module: Any, path: Path, dtype: str = "float16") -> None:
    """Write a transformers BertModel as an ONNX file, with its weights in a file beside it.

    `dtype` is numpy's name for that of the weights. Nothing is compared with the module here.
    """
    state = {name: tensor.float().cpu().numpy() for name, tensor in module.state_dict().items()}
    writer = _Writer(state, dtype)
    hidden = _embeddings(writer, module.config)
    for index in range(module.config.num_hidden_layers):
        hidden = _layer(writer, module.config, f"encoder.layer.{index}", hidden)
    pooled = writer.node("PoolRows", [hidden, "offsets"], "pooled", poolings="mean")
    writer.node("UnitRows", [pooled], "sentence_embedding")
    writer.nodes.append(helper.make_node("Cast", [hidden], ["hidden"], to=TensorProto.FLOAT))
    writer.node("Unpack", ["hidden", "input_ids", "rows"], "last_hidden_state")
    _save(writer, path)


def _embeddings(writer: _Writer, config: Any) -> str:
    writer.node(
        "Pack",
        ["input_ids", "token_type_ids", "attention_mask"],
        *("ids", "types", "positions", "rows", "offsets"),
    )
    tables = [
        writer.weight(f"embeddings.{name}_embeddings.weight")
        for name in ("word", "token_type", "position")
    ]
    norm = writer.norm("embeddings.LayerNorm")
    inputs = ["ids", "types", "positions", *tables, *norm]
    return writer.node("EmbedLayerNorm", inputs, "embedded", epsilon=config.layer_norm_eps)


def _layer(writer: _Writer, config: Any, scope: str, x: str) -> str:
    qkv = writer.linear(f"{scope}.attention.self", "query", "key", "value")
    packed = writer.node("Linear", [x, *qkv], f"{scope}.qkv")
    context = writer.node(
        "PackedAttention",
        [packed, "offsets"],
        f"{scope}.context",
        num_heads=config.num_attention_heads,
    )
    attended = _linear_and_norm(writer, config, f"{scope}.attention.output", context, x)
    inner = writer.linear(f"{scope}.intermediate", "dense")
    activation = config.hidden_act
    wide = writer.node("Linear", [attended, *inner], f"{scope}.wide", activation=activation)
    return _linear_and_norm(writer, config, f"{scope}.output", wide, attended)


def _linear_and_norm(writer: _Writer, config: Any, scope: str, x: str, residual: str) -> str:
    """Add a product whose bias and residual the LayerNorm after it adds."""
    weight, bias = writer.linear(scope, "dense")
    summed = writer.node("Linear", [x, weight], f"{scope}.summed")
    inputs = [summed, *writer.norm(f"{scope}.LayerNorm"), bias, residual]
    return writer.node("AddLayerNorm", inputs, f"{scope}.out", epsilon=config.layer_norm_eps)


def _save(writer: _Writer, path: Path) -> None:
    graph = helper.make_graph(
        writer.nodes,
        "bert",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
            for name in ("input_ids", "attention_mask", "token_type_ids")
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
            for name in ("sentence_embedding", "last_hidden_state")
        ],
        [numpy_helper.from_array(array, name) for name, array in writer.weights.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, VERSION)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.save(model, path, save_as_external_data=True, location=f"{path.name}.data")
