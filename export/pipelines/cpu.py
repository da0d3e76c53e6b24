"""The fusions of each target, in order, and how many of each operator there must be after them."""

from collections import Counter
from collections.abc import Collection
from typing import Any

import onnx_ir as ir

from bertrt.export.fusion.attention import fuse_attention
from bertrt.export.fusion.embeddings import add_embeddings
from bertrt.export.fusion.first_token_attention import attend_to_inputs
from bertrt.export.fusion.masked_rows import keep_masked_rows
from bertrt.export.fusion.prune_last_layer import prune_last_layer
from bertrt.export.fusion.qkv import pack_qkv
from bertrt.export.fusion.reshape import make_reshapes_static
from bertrt.export.fusion.residual_bias import fold_residual_biases
from bertrt.export.fusion.unpadded import skip_masks_of_unpadded
from bertrt.export.fusion.weight_rows import store_rows
from bertrt.export.fusion.weights import fold_transposed_weights
from bertrt.export.graph.cleanup import clean
from bertrt.export.heads import Head
from bertrt.export.pipelines.expected_counts import check_counts

__all__ = ["FIRST_TOKEN_TASKS", "MASK_TASKS", "TRANSFORM_TASKS", "fuse"]

# Heads with a dense + activation + LayerNormalization before the vocabulary.
TRANSFORM_TASKS = ("pretraining", "text-generation", "fill-mask")
# Heads that read the first token alone, and those that read the masks' if told so.
FIRST_TOKEN_TASKS = ("text-classification", "next-sentence-prediction", "multiple-choice")
MASK_TASKS = ("fill-mask", "pretraining")
# Those of encoder layers, by weights of which each row gives an output.
PRODUCTS = "FusedMatMul"


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
            counts["FirstTokenAttention"] = attend_to_inputs(model)
            counts[PRODUCTS] = store_rows(model)
        # What stands in the branches of an If is hidden from other fusions.
        counts["UnmaskedAttention"] = skip_masks_of_unpadded(model)
    clean(model)

    found = Counter(node.op_type for node in model.graph)
    pooled = "pooler_output" in [value.name for value in model.graph.outputs]
    expected = _expected(
        config,
        head,
        target,
        masks=mask_id is not None,
        pooled=pooled,
        to_quantize=to_quantize,
        internals=internals,
    )
    counts.update({name: found[name] for name in expected if name not in counts})
    check_counts(counts, expected, target, head.class_name)
    return {name: number for name, number in counts.items() if number}


def _expected(
    config: Any,
    head: Head,
    target: str,
    *,
    masks: bool,
    pooled: bool,
    to_quantize: bool,
    internals: Collection[str],
) -> dict[str, int]:
    """Each operator to how many of it there must be.

    `masks` says that there is a mask token, `pooled` that a BertModel has a pooler.
    """
    layers = int(config.num_hidden_layers)
    transforms = 1 if head.task in TRANSFORM_TASKS else 0
    expected = {"LayerNormalization": 2 * layers + 1 + transforms, "SkipLayerNormalization": 0}
    attentions = 0 if "attentions.0" in internals else layers
    if target == "any":
        return {**expected, "Attention": attentions}
    embeds = head.task == "feature-extraction"
    first = int(head.task in FIRST_TOKEN_TASKS and not internals)
    masked = int(masks and head.task in MASK_TASKS and not internals)
    expected |= {
        "PrunedLayer": first or int(embeds and not internals),
        "MaskedRows": masked,
        "Embedding": 2 + pooled if embeds else 0,
    }
    if to_quantize:
        attended = 0
        expected |= {"PackedQKV": layers, "ResidualBias": 0, PRODUCTS: 0}
    else:
        attended = first
        # Of the last layer, keys and values for the first token, and what is computed for masks.
        products = 5 * layers - 2 * attended - 2 * (masked and head.task == "fill-mask")
        # What a layer begins with may be an output, and then keeps its numbers.
        biases = layers if "hidden_states.0" in internals else 2 * layers
        expected |= {"ResidualBias": biases, PRODUCTS: products}
    # Attention without a cache stands in the branches of an If, but for that of the first token.
    cached = attentions if config.is_decoder else attended
    return {
        **expected,
        "FirstTokenAttention": attended,
        "Attention": cached,
        "UnmaskedAttention": 0 if config.is_decoder else attentions - attended,
    }
