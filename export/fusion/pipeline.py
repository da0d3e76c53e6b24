"""The fusions of each target, in order, and how many of each operator there must be after them."""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import onnx_ir as ir

from bertrt.export.fusion.attention import fuse_attention
from bertrt.export.fusion.counts import check_counts
from bertrt.export.fusion.embeddings import add_embeddings
from bertrt.export.fusion.masked_rows import keep_masked_rows
from bertrt.export.fusion.prune_last_layer import prune_last_layer
from bertrt.export.fusion.qkv import pack_qkv
from bertrt.export.fusion.reshape import make_reshapes_static
from bertrt.export.fusion.residual_bias import fold_residual_biases
from bertrt.export.fusion.short_texts import add_short_form
from bertrt.export.fusion.unpadded import skip_masks_of_unpadded
from bertrt.export.fusion.weights import fold_transposed_weights
from bertrt.export.heads import Head
from bertrt.export.tidy import clean

__all__ = ["FIRST_TOKEN_TASKS", "MASK_TASKS", "TRANSFORM_TASKS", "fuse"]

# Heads with a dense + activation + LayerNormalization before the vocabulary.
TRANSFORM_TASKS = ("pretraining", "text-generation", "fill-mask")
# Heads that read the first token alone, and those that read the masks' if told so.
FIRST_TOKEN_TASKS = ("text-classification", "next-sentence-prediction", "multiple-choice")
MASK_TASKS = ("fill-mask", "pretraining")


def fuse(
    model: ir.Model,
    config: Any,
    head: Head,
    target: str,
    *,
    mask_id: int | None = None,
    to_quantize: bool = False,
    internals: Collection[str] = (),
) -> dict[str, int]:
    """Rewrite a traced graph for a target, in place.

    Args:
        model: what `trace` made.
        config: the checkpoint's BertConfig.
        head: the head that was traced.
        target: "any" keeps to standard operators; "cpu" also uses the com.microsoft operators
            that are fastest on ONNX Runtime's CPU provider, and has optional inputs and outputs.
        mask_id: the mask token's id; None for a tokenizer without one, whose graph then has no
            input `masked_only`.
        to_quantize: whether linear layers will be quantized, which then take their biases along,
            and share a scale where they read the same.
        internals: the outputs that show the model's inside, which need every token of every layer;
            with attention weights among them, attention is no single operator.

    Returns how many of each operator that matters the graph holds now.

    Raises ExportError when that is not what a model of this config must hold.
    """
    counts: dict[str, int] = {}
    fold_transposed_weights(model)
    make_reshapes_static(model)
    if target == "cpu":
        fuse_attention(model)
        if not internals:
            optional = head.task == "feature-extraction"
            counts["PrunedLayer"] = prune_last_layer(model, optional=optional)
            if head.task in MASK_TASKS and mask_id is not None:
                counts["MaskedRows"] = keep_masked_rows(model, mask_id)
        counts["Embedding"] = add_embeddings(model)
        if to_quantize:
            counts["PackedQKV"] = pack_qkv(model)
        else:
            counts["ResidualBias"] = fold_residual_biases(model)
        # What stands in the branches of an If is hidden from other fusions.
        counts["UnmaskedAttention"] = skip_masks_of_unpadded(model)
    clean(model)

    found = Counter(node.op_type for node in model.graph)
    pooled = "pooler_output" in [value.name for value in model.graph.outputs]
    expected = _expected(config, head, target, masks=mask_id is not None, pooled=pooled)
    if to_quantize:
        expected |= {"PackedQKV": int(config.num_hidden_layers), "ResidualBias": 0}
    if internals:
        expected |= {"PrunedLayer": 0, "MaskedRows": 0}
    if "ResidualBias" in expected and "hidden_states.0" in internals:
        # What a layer begins with is an output, and keeps its numbers.
        expected["ResidualBias"] //= 2
    if "attentions.0" in internals:
        expected |= {"Attention": 0, "UnmaskedAttention": 0}
    counts.update({name: found[name] for name in expected if name not in counts})
    if target == "cpu" and not to_quantize and (products := add_short_form(model)):
        # Last of all, and uncounted before: it moves the layers into branches, and copies them.
        counts["ShortText"] = products
        expected["ShortText"] = _products(config, head, counts)
        clean(model)
    check_counts(counts, expected, target, head.class_name)
    return {name: number for name, number in counts.items() if number}


def _products(config: Any, head: Head, counts: Mapping[str, int]) -> int:
    """How many products of the layers are of all tokens."""
    last = 6
    if counts.get("PrunedLayer") and head.task in FIRST_TOKEN_TASKS:
        last = 2  # keys and values
    elif counts.get("MaskedRows") and head.task == "fill-mask":
        last = 3  # and queries
    return 6 * (int(config.num_hidden_layers) - 1) + last


def _expected(config: Any, head: Head, target: str, *, masks: bool, pooled: bool) -> dict[str, int]:
    """Each operator to how many of it there must be.

    `masks` says that there is a mask token, `pooled` that a BertModel has a pooler.
    """
    layers = int(config.num_hidden_layers)
    transforms = 1 if head.task in TRANSFORM_TASKS else 0
    embeds = head.task == "feature-extraction"
    expected = {"LayerNormalization": 2 * layers + 1 + transforms, "SkipLayerNormalization": 0}
    if target == "any":
        return {**expected, "Attention": layers}
    return {
        **expected,
        # Those of the other heads stand in the branches of an If.
        "Attention": layers if config.is_decoder else 0,
        "UnmaskedAttention": 0 if config.is_decoder else layers,
        "ResidualBias": 2 * layers,
        "PrunedLayer": int(embeds or head.task in FIRST_TOKEN_TASKS),
        "MaskedRows": int(masks and head.task in MASK_TASKS),
        "Embedding": 2 + pooled if embeds else 0,
    }
