"""The fusions of the targets "cpu" and "any", in order, and the operators after them."""

from collections import Counter
from collections.abc import Collection
from typing import Any

import onnx_ir as ir

from bertrt.export.extra_outputs import has_attentions, has_hidden_states
from bertrt.export.fusion.attention import fuse_attention
from bertrt.export.fusion.first_token_attention import attend_to_inputs
from bertrt.export.fusion.masked_rows import keep_masked_rows
from bertrt.export.fusion.output_major_weights import store_output_major
from bertrt.export.fusion.pack_qkv import pack_qkv
from bertrt.export.fusion.prune_last_layer import prune_last_layer
from bertrt.export.fusion.residual_bias import fold_residual_biases
from bertrt.export.fusion.sentence_embedding import add_sentence_embedding
from bertrt.export.fusion.share_biased_masks import share_biased_masks
from bertrt.export.fusion.skip_masks import skip_masks_without_padding
from bertrt.export.fusion.static_reshapes import make_reshapes_static
from bertrt.export.fusion.transpose_weights import fold_transposed_weights
from bertrt.export.graph.cleanup import clean
from bertrt.export.heads import FIRST_TOKEN_TASKS, MASK_TASKS, HeadSpec
from bertrt.export.pipelines.expected_counts import check_counts
from bertrt.export.pipelines.structure import structure_of
from bertrt.export.vector_modules import VectorModules

__all__ = ["OUTPUT_MAJOR_PRODUCT", "fuse_for_cpu"]

# The operator that `store_output_major` makes.
OUTPUT_MAJOR_PRODUCT = "FusedMatMul"


def fuse_for_cpu(
    model: ir.Model,
    config: Any,
    head: HeadSpec,
    target: str,
    *,
    mask_id: int | None = None,
    to_quantize: bool = False,
    extra_outputs: Collection[str] = (),
    vectors: VectorModules | None = None,
) -> dict[str, int]:
    """Fuse a traced graph for ONNX Runtime's CPU provider, in place.

    Args:
        model: the graph that `trace` returned.
        config: the checkpoint's BertConfig.
        head: the head that was traced.
        target: "any" keeps to standard operators; "cpu" also uses the com.microsoft operators
            that are fastest on ONNX Runtime's CPU provider, and has optional inputs and outputs.
        mask_id: the mask token's id; None for a tokenizer without one, whose graph has no input
            `masked_only`.
        to_quantize: whether linear layers will be quantized. They then keep their biases, and
            layers that read the same input are packed to share its scale.
        extra_outputs: the requested hidden states and attention weights, which need every token
            of every layer. With attention weights, attention is not a single operator.
        vectors: what makes a text's vector of its hidden states; None for other heads.

    Returns the number of each relevant operator in the graph.

    Raises ExportError if these are not the numbers that the config requires.
    """
    counts: dict[str, int] = {}
    fold_transposed_weights(model)
    make_reshapes_static(model)
    if target == "cpu":
        fuse_attention(model)
        if not extra_outputs:
            optional = head.task == "feature-extraction"
            counts["PrunedLayer"] = prune_last_layer(model, optional=optional)
            if head.task in MASK_TASKS and mask_id is not None:
                counts["MaskedRows"] = keep_masked_rows(model, mask_id)
    if to_quantize:
        counts["PackedQKV"] = pack_qkv(model)
    if target == "cpu":
        if not to_quantize:
            counts["ResidualBias"] = fold_residual_biases(model)
            counts["FirstTokenAttention"] = attend_to_inputs(model)
            counts[OUTPUT_MAJOR_PRODUCT] = store_output_major(model)
        # Late: the nodes in the branches of an If are hidden from other fusions.
        counts["UnmaskedAttention"] = skip_masks_without_padding(model)
        counts["SharedBiasedMask"] = share_biased_masks(model)
    counts["SentenceEmbedding"] = add_sentence_embedding(model, vectors)
    clean(model)

    found = Counter(node.op_type for node in model.graph)
    expected = _expected_counts(
        config,
        head,
        target,
        has_mask=mask_id is not None,
        to_quantize=to_quantize,
        extra_outputs=extra_outputs,
        vectors=vectors,
    )
    counts.update({name: found[name] for name in expected if name not in counts})
    check_counts(counts, expected, target, head.task)
    return {name: number for name, number in counts.items() if number}


def _expected_counts(
    config: Any,
    head: HeadSpec,
    target: str,
    *,
    has_mask: bool,
    to_quantize: bool,
    extra_outputs: Collection[str],
    vectors: VectorModules | None,
) -> dict[str, int]:
    """Return the number of each operator that the graph must have.

    `has_mask` says whether there is a mask token.
    """
    structure = structure_of(config, head, vectors)
    layers = structure.layers
    expected = {
        "LayerNormalization": 1 + 2 * layers + structure.later_norms,
        "SkipLayerNormalization": 0,
        "SentenceEmbedding": int(vectors is not None),
    }
    attentions = 0 if has_attentions(extra_outputs) else layers
    if target == "any":
        packed = {"PackedQKV": layers} if to_quantize else {}
        return {**expected, **packed, "Attention": attentions}
    embeds = head.task == "feature-extraction"
    first = int(head.task in FIRST_TOKEN_TASKS and not extra_outputs)
    masked = int(has_mask and head.task in MASK_TASKS and not extra_outputs)
    expected |= {
        "PrunedLayer": first or int(embeds and not extra_outputs),
        "MaskedRows": masked,
    }
    if to_quantize:
        single_query = 0
        expected |= {"PackedQKV": layers, "ResidualBias": 0, OUTPUT_MAJOR_PRODUCT: 0}
    else:
        single_query = first
        # Less, in the last layer: keys and values of the first token's attention, and the products
        # of mask tokens only.
        products = 5 * layers - 2 * single_query - 2 * (masked and head.task == "fill-mask")
        # One for each block whose input is that of a normalization. A layer's input may be an
        # output, whose numbers must not change, and that of the first may be a projection.
        inputs = 0 if has_hidden_states(extra_outputs) else layers - structure.projections
        biases = layers + inputs
        expected |= {"ResidualBias": biases, OUTPUT_MAJOR_PRODUCT: products}
    # Attention without a cache is in the branches of an If, except that of the first token, and
    # except with a bias, which the kernel without a mask does not take.
    masked_only = config.is_decoder or structure.biased_masks
    unmasked = 0 if masked_only else attentions - single_query
    return {
        **expected,
        "FirstTokenAttention": single_query,
        "Attention": attentions - unmasked,
        "UnmaskedAttention": unmasked,
        "SharedBiasedMask": structure.biased_masks,
    }
