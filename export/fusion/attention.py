"""Standard Attention to com.microsoft MultiHeadAttention, for ONNX Runtime's CPU provider.

MultiHeadAttention reads [B, S, H] as the linear layers leave it and a padding mask [B, S], so the
reshapes and transposes around Attention and the mask of B x S x S booleans go away. Only
bidirectional attention is fused: with a key/value cache the keys and values are graph outputs.
"""

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter.pattern import MatchResult, RewriteRuleClassBase

__all__ = ["fuse_attention"]

_SPLIT_HEADS = (0, 2, 1, 3)
# What eager attention adds to a masked score.
_MASKED = float(np.finfo(np.float32).min)


class _MultiHeadAttention(RewriteRuleClassBase):
    """Reshape, Transpose, Attention, Transpose, Reshape with a padding mask: one node."""

    def pattern(self, op, query, key, value, mask, split_q, split_k, split_v, merge):  # type: ignore[no-untyped-def]
        context = op.Attention(
            op.Transpose(op.Reshape(query, split_q), perm=_SPLIT_HEADS),
            op.Transpose(op.Reshape(key, split_k), perm=_SPLIT_HEADS),
            op.Transpose(op.Reshape(value, split_v), perm=_SPLIT_HEADS),
            mask,
            _allow_other_inputs=False,
            _outputs=["attention"],
        )
        return op.Reshape(op.Transpose(context, perm=_SPLIT_HEADS), merge)

    def check(  # type: ignore[no-untyped-def]
        self, context, attention, mask, split_q, split_k, split_v, merge, **_
    ) -> MatchResult:
        result = MatchResult()
        attributes = attention.producer().attributes
        if attributes.get_int("is_causal", 0) or attributes.get_float("softcap", 0.0):
            return result.fail("causal attention and a soft cap are not fused", attention)
        splits = [_constant(shape) for shape in (split_q, split_k, split_v)]
        if splits[0] is None or splits.count(splits[0]) != 3 or splits[0][:2] != [0, 0]:
            return result.fail("heads are not split by a constant [0, 0, N, D]", split_q)
        if _constant(merge) != [0, 0, splits[0][2] * splits[0][3]]:
            return result.fail("heads are not merged by a constant [0, 0, H]", merge)
        if _padding_mask(mask) is None:
            return result.fail("the mask is not an expanded padding mask", mask)
        return result

    def rewrite(self, op, query, key, value, mask, attention, split_q, **_):  # type: ignore[no-untyped-def]
        node = attention.producer()
        scale = node.attributes.get_float("scale")
        return op.MultiHeadAttention(
            query,
            key,
            value,
            None,
            op.Cast(_padding_mask(mask), to=ir.DataType.INT32, _name=f"{node.name}/mask"),
            num_heads=_constant(split_q)[2],  # type: ignore[index]
            mask_filter_value=_MASKED,
            **({} if scale is None else {"scale": scale}),
            _domain="com.microsoft",
            _name=node.name.replace("Attention", "MultiHeadAttention"),
        )


def fuse_attention(model: ir.Model) -> int:
    """Fuse every attention that only padding masks, in place; returns how many."""
    count: int = _MultiHeadAttention.rule().apply_to_model(model)
    return count


def _constant(value: ir.Value) -> list[int] | None:
    return None if value.const_value is None else value.const_value.numpy().tolist()


def _padding_mask(mask: ir.Value) -> ir.Value | None:
    """The integers [B, S] behind Expand(Unsqueeze(Cast(mask, to bool), [1, 2])), if that it is."""
    expand = mask.producer()
    if expand is None or expand.op_type != "Expand":
        return None
    unsqueeze = expand.inputs[0].producer()
    if unsqueeze is None or unsqueeze.op_type != "Unsqueeze":
        return None
    if _constant(unsqueeze.inputs[1]) != [1, 2]:
        return None
    cast = unsqueeze.inputs[0].producer()
    if cast is None or cast.op_type != "Cast":
        return None
    if cast.attributes.get_int("to") != ir.DataType.BOOL:
        return None
    source: ir.Value = cast.inputs[0]
    return source if source.shape is not None and source.shape.rank() == 2 else None
