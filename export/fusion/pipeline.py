"""The fusions of each target, in order, and how many of each operator there must be after them."""

from collections import Counter
from typing import Any

import onnx_ir as ir

from bertrt.errors import ExportError
from bertrt.export.fusion.attention import fuse_attention
from bertrt.export.fusion.bias_gelu import fuse_bias_gelu
from bertrt.export.fusion.qkv import pack_qkv
from bertrt.export.fusion.reshape import make_reshapes_static
from bertrt.export.fusion.weights import fold_transposed_weights
from bertrt.export.heads import Head
from bertrt.export.tidy import clean

__all__ = ["SESSION_LEVEL", "fuse"]

# How far ONNX Runtime may optimize a graph itself. For cpu only what cannot change an operator for
# a slower one: from "extended" on it fuses Add + LayerNormalization to SkipLayerNormalization.
SESSION_LEVEL: dict[str, str] = {"any": "all", "cpu": "basic"}

# Heads with a dense + activation + LayerNormalization before the vocabulary.
_TRANSFORM_TASKS = ("pretraining", "text-generation", "fill-mask")


def fuse(model: ir.Model, config: Any, head: Head, target: str) -> dict[str, int]:
    """Rewrite a traced graph for a target, in place.

    Args:
        model: what `trace` made.
        config: the checkpoint's BertConfig.
        head: the head that was traced.
        target: "any" keeps to standard operators; "cpu" also uses the com.microsoft operators
            that are fastest on ONNX Runtime's CPU provider.

    Returns how many of each operator that matters the graph holds now.

    Raises ExportError when that is not what a model of this config must hold.
    """
    counts: dict[str, int] = {}
    fold_transposed_weights(model)
    make_reshapes_static(model)
    if target == "cpu":
        fuse_attention(model)
        counts["PackedQKV"] = pack_qkv(model)
        fuse_bias_gelu(model)
    clean(model)

    found = Counter(node.op_type for node in model.graph)
    expected = _expected(config, head, target)
    counts.update({name: found[name] for name in expected if name not in counts})
    for name, number in expected.items():
        if counts[name] != number:
            raise ExportError(
                f"the {target} graph of {head.class_name} has {counts[name]} x {name} where its "
                f"config calls for {number}: this version of torch or transformers traces in a "
                "form that bertrt does not know, so install the versions that it was tested with"
            )
    return {name: number for name, number in counts.items() if number}


def _expected(config: Any, head: Head, target: str) -> dict[str, int]:
    """Each operator to how many of it there must be."""
    layers = int(config.num_hidden_layers)
    transforms = 1 if head.task in _TRANSFORM_TASKS else 0
    gelus = layers + transforms if config.hidden_act == "gelu" else 0
    expected = {"LayerNormalization": 2 * layers + 1 + transforms, "SkipLayerNormalization": 0}
    if target == "any":
        return {**expected, "Attention": layers}
    return {
        **expected,
        # Causal attention stays the standard operator: see fuse_attention.
        "Attention": layers if config.is_decoder else 0,
        "MultiHeadAttention": 0 if config.is_decoder else layers,
        "PackedQKV": layers,
        "BiasGelu": gelus,
    }
