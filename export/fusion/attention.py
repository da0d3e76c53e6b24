"""Remove the reshapes and transposes around attention: queries, keys and values as [B, S, H].

The traced graph splits the heads by Reshape and Transpose, and merges them again. The standard
Attention operator does both itself if it gets [B, S, H] and the number of heads, and ONNX Runtime's
kernel is faster that way. Only bidirectional attention is fused: with a key/value cache, keys and
values are graph outputs.
"""

import onnx_ir as ir
from onnxscript.rewriter.pattern import MatchResult, RewriteRuleClassBase

__all__ = ["fuse_attention"]

_SPLIT_HEADS = (0, 2, 1, 3)


class _Attention(RewriteRuleClassBase):
    """Reshape, Transpose, Attention, Transpose, Reshape → Attention."""

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
        self, context, attention, split_q, split_k, split_v, merge, **_
    ) -> MatchResult:
        result = MatchResult()
        if attention.producer().attributes.get_int("is_causal", 0):
            return result.fail("causal attention is not fused", attention)
        splits = [_constant(shape) for shape in (split_q, split_k, split_v)]
        if splits[0] is None or splits.count(splits[0]) != 3 or splits[0][:2] != [0, 0]:
            return result.fail("heads are not split by a constant [0, 0, N, D]", split_q)
        if _constant(merge) != [0, 0, splits[0][2] * splits[0][3]]:
            return result.fail("heads are not merged by a constant [0, 0, H]", merge)
        return result

    def rewrite(self, op, query, key, value, mask, attention, split_q, **_):  # type: ignore[no-untyped-def]
        node = attention.producer()
        heads = _constant(split_q)[2]  # type: ignore[index]
        kept = {
            name: node.attributes[name] for name in ("scale", "softcap") if name in node.attributes
        }
        return op.Attention(
            query,
            key,
            value,
            mask,
            q_num_heads=heads,
            kv_num_heads=heads,
            **kept,
            _name=node.name,
        )


def fuse_attention(model: ir.Model) -> int:
    """Fuse every bidirectional attention, in place; returns the count."""
    count: int = _Attention.rule().apply_to_model(model)
    return count


def _constant(value: ir.Value) -> list[int] | None:
    return None if value.const_value is None else value.const_value.numpy().tolist()
