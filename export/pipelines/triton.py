"""The fusions and lowerings for the Triton engine, in order, and the operators after them."""

from collections import Counter
from typing import Any

import onnx_ir as ir

from bertrt.export.fusion.attention import fuse_attention
from bertrt.export.fusion.pack_qkv import pack_qkv
from bertrt.export.fusion.static_reshapes import make_reshapes_static
from bertrt.export.fusion.transpose_weights import fold_transposed_weights
from bertrt.export.graph.cleanup import clean
from bertrt.export.heads import FIRST_TOKEN_TASKS, MASK_TASKS, HeadSpec
from bertrt.export.lowering.attention import pack_attention
from bertrt.export.lowering.embeddings import pack_embeddings
from bertrt.export.lowering.first_token import select_first_tokens
from bertrt.export.lowering.layer_norm import fuse_layer_norms
from bertrt.export.lowering.linear import fuse_linears
from bertrt.export.lowering.output_shapes import restore_shapes
from bertrt.export.lowering.prune_last_layer import keep_first_rows, keep_masked_rows
from bertrt.export.lowering.sentence_embedding import add_sentence_embedding
from bertrt.export.pipelines.expected_counts import check_counts
from bertrt.export.pipelines.structure import structure_of
from bertrt.export.vector_modules import VectorModules
from bertrt.kernels.ops.operator import DOMAIN, VERSION

__all__ = ["fuse_for_triton"]

# Linear layers after the encoder, without the pooler of a BertModel, which may be missing.
_HEAD_LINEARS = {
    "feature-extraction": 0,
    "pretraining": 4,
    "text-generation": 2,
    "fill-mask": 2,
    "next-sentence-prediction": 2,
    "text-classification": 2,
    "multiple-choice": 2,
    "token-classification": 1,
    "question-answering": 1,
}


def fuse_for_triton(
    model: ir.Model,
    config: Any,
    head: HeadSpec,
    *,
    mask_id: int | None = None,
    vectors: VectorModules | None = None,
) -> dict[str, int]:
    """Lower a traced graph without a key/value cache to `bertrt.kernels.ops`, in place, in float32.

    Args:
        model: the graph that `trace` returned.
        config: the checkpoint's BertConfig.
        head: the head that was traced.
        mask_id: the mask token's id; None for a tokenizer without one, whose graph has no input
            `masked_only`.
        vectors: what makes a text's vector of its hidden states; None for other heads.

    Returns the number of each operator in the graph.

    Raises ExportError if these are not exactly the operators that the config requires: no kernel
    could run a node that no fusion matched. And for modules of a text's vector that no kernel has.
    """
    fold_transposed_weights(model)
    make_reshapes_static(model)
    fuse_attention(model)
    pack_qkv(model)
    clean(model)

    pack_embeddings(model)
    pack_attention(model)
    select_first_tokens(model)
    restore_shapes(model)
    fuse_layer_norms(model)
    fuse_linears(model)
    clean(model)

    embeds = head.task == "feature-extraction"
    if embeds or head.task in FIRST_TOKEN_TASKS:
        keep_first_rows(model, optional=embeds)
    if head.task in MASK_TASKS and mask_id is not None:
        keep_masked_rows(model, mask_id)
    add_sentence_embedding(model, vectors)
    model.opset_imports[DOMAIN] = VERSION
    clean(model)
    _forget_padded_shapes(model)

    found = Counter(node.op_type for node in model.graph)
    expected = _expected_counts(
        config,
        head,
        has_mask=mask_id is not None,
        has_pooler=any(value.name == "pooler_output" for value in model.graph.outputs),
        vectors=vectors,
    )
    no_others = dict.fromkeys(found, 0)
    check_counts(found, no_others | expected, "triton", head.task)
    return dict(found)


def _expected_counts(
    config: Any,
    head: HeadSpec,
    *,
    has_mask: bool,
    has_pooler: bool,
    vectors: VectorModules | None,
) -> Counter[str]:
    """Return the number of each operator that the graph must have; there may be no others.

    `has_mask` says whether there is a mask token, `has_pooler` whether a BertModel has a pooler.
    """
    task = head.task
    structure = structure_of(config, head, vectors)
    layers = structure.layers
    embeds = task == "feature-extraction"
    first = task in FIRST_TOKEN_TASKS
    masked = has_mask and task in MASK_TASKS
    modules = () if vectors is None else vectors.names
    return +Counter(
        {
            "Pack": 1,
            "EmbedLayerNorm": 1,
            "PackedAttention": layers,
            "AddLayerNorm": 2 * layers + structure.later_norms,
            "Linear": (
                4 * layers
                + structure.projections
                + _HEAD_LINEARS[task]
                + (embeds and has_pooler)
                + modules.count("Dense")
            ),
            # In a pruned layer, the attention's context and the residual; and before a pooler.
            "SelectRows": (
                2 * (first or embeds or (masked and task == "fill-mask"))
                + ((embeds and has_pooler) or task == "pretraining")
                + (masked and task == "pretraining")
            ),
            "FirstRows": embeds + (embeds and has_pooler) + first + (task == "pretraining"),
            "PickedOffsets": int(embeds),
            "MaskedRows": int(masked),
            "PoolRows": int(vectors is not None),
            "UnitRows": modules.count("Normalize"),
            "Unpack": int(not first),
            "Regroup": int(task == "multiple-choice"),
            "Split": int(task == "question-answering"),
            "Squeeze": 2 * (task == "question-answering"),
        }
    )


def _forget_padded_shapes(model: ir.Model) -> None:
    """Remove the traced shapes [B, S, …] of values that are packed now."""
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = value.type = None
