"""The fusions from the traced graph to the dialect, in order, and what must be there after them."""

from collections import Counter
from typing import Any

import onnx_ir as ir

from bertrt.export.fusion.attention import fuse_attention
from bertrt.export.fusion.qkv import pack_qkv
from bertrt.export.fusion.reshape import make_reshapes_static
from bertrt.export.fusion.weights import fold_transposed_weights
from bertrt.export.graph.cleanup import clean
from bertrt.export.heads import Head
from bertrt.export.lowering.attention import pack_attention
from bertrt.export.lowering.embedding_outputs import add_vectors
from bertrt.export.lowering.embeddings import pack_embeddings
from bertrt.export.lowering.first_token import select_first_tokens
from bertrt.export.lowering.layer_norm import fuse_layer_norms
from bertrt.export.lowering.linear import fuse_linears
from bertrt.export.lowering.output_shapes import restore_shapes
from bertrt.export.lowering.prune_last_layer import keep_first_rows, keep_masked_rows
from bertrt.export.pipelines.cpu import FIRST_TOKEN_TASKS, MASK_TASKS, TRANSFORM_TASKS
from bertrt.export.pipelines.expected_counts import check_counts
from bertrt.kernels.ops import DOMAIN, VERSION

__all__ = ["fuse_to_dialect"]

# Linear layers after the encoder, but for the pooler of a BertModel, which may be missing.
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


def fuse_to_dialect(
    model: ir.Model, config: Any, head: Head, *, mask_id: int | None = None
) -> dict[str, int]:
    """Rewrite a traced graph, without a key/value cache, to the dialect, in place, in float32.

    Args:
        model: what `trace` made.
        config: the checkpoint's BertConfig.
        head: the head that was traced.
        mask_id: the mask token's id; None for a tokenizer without one, whose graph then has no
            input `masked_only`.

    Returns how many of each operator the graph holds.

    Raises ExportError when that is not what a model of this config must hold, to the last node:
    what no fusion knew would run on no kernel.
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
    fuse_linears(model, str(config.hidden_act))
    clean(model)

    embeds = head.task == "feature-extraction"
    if embeds or head.task in FIRST_TOKEN_TASKS:
        keep_first_rows(model, optional=embeds)
    if head.task in MASK_TASKS and mask_id is not None:
        keep_masked_rows(model, mask_id)
    if embeds:
        add_vectors(model)
    model.opset_imports[DOMAIN] = VERSION
    clean(model)
    _forget_padded_shapes(model)

    found = Counter(node.op_type for node in model.graph)
    pooled = "pooler_output" in [value.name for value in model.graph.outputs]
    expected = _expected(config, head, masks=mask_id is not None, pooled=pooled)
    nothing = dict.fromkeys(found, 0)
    check_counts(found, nothing | expected, "triton", head.class_name)
    return dict(found)


def _expected(config: Any, head: Head, *, masks: bool, pooled: bool) -> Counter[str]:
    """Each operator to how many of it there must be; there may be no others.

    `masks` says that there is a mask token, `pooled` that a BertModel has a pooler.
    """
    task = head.task
    layers = int(config.num_hidden_layers)
    embeds = task == "feature-extraction"
    first = task in FIRST_TOKEN_TASKS
    masked = masks and task in MASK_TASKS
    by_token = not first
    return +Counter(
        {
            "Pack": 1,
            "EmbedLayerNorm": 1,
            "PackedAttention": layers,
            "AddLayerNorm": 2 * layers + (task in TRANSFORM_TASKS),
            "Linear": 4 * layers + _HEAD_LINEARS[task] + (embeds and pooled),
            # Of a pruned layer, the attention's context and the residual.
            "SelectRows": (
                2 * (first or embeds or (masked and task == "fill-mask"))
                + (embeds or task == "pretraining")
                + (masked and task == "pretraining")
            ),
            "FirstRows": 2 * embeds + first + (task == "pretraining"),
            "PickedOffsets": int(embeds),
            "MaskedRows": int(masked),
            "MeanRows": int(embeds),
            "UnitRows": (2 + pooled) * embeds,
            "Unpack": int(by_token),
            "Regroup": int(task == "multiple-choice"),
            "Split": int(task == "question-answering"),
            "Squeeze": 2 * (task == "question-answering"),
        }
    )


def _forget_padded_shapes(model: ir.Model) -> None:
    """Drop the shapes of what is packed now: the traced graph's said [B, S, …]."""
    for node in model.graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = value.type = None
