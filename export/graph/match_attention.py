"""Match the plain Attention operator of BERT, and its padding mask."""

import onnx_ir as ir

from bertrt.export.graph.match_embeddings import graph_input_name

__all__ = ["is_padding_mask", "plain_attention_heads"]


def plain_attention_heads(node: ir.Node) -> int | None:
    """Return the number of heads of an Attention on [B, S, H], or None for another node.

    None also for an Attention with a cap on its scores, with `is_causal`, or with fewer heads for
    keys and values than for queries.
    """
    if node.op_type != "Attention":
        return None
    if node.attributes.get_float("softcap", 0.0) or node.attributes.get_int("is_causal", 0):
        return None
    heads: int = node.attributes.get_int("q_num_heads", 0)
    return heads if heads and heads == node.attributes.get_int("kv_num_heads", 0) else None


def is_padding_mask(value: ir.Value | None) -> bool:
    """Whether the value is `attention_mask` cast to bool, with axes added before the last."""
    for operator in ("Unsqueeze", "Cast"):
        node = None if value is None else value.producer()
        if node is None or node.op_type != operator:
            return False
        value = node.inputs[0]
    return graph_input_name(value) == "attention_mask"
