"""Add of a bias and Gelu to com.microsoft BiasGelu, for ONNX Runtime's CPU provider in float32.

An int8 graph is better off without it: there the bias belongs to the matrix product.
"""

import onnx_ir as ir
from onnxscript.rewriter.pattern import MatchResult, RewriteRuleClassBase, RewriteRuleSet

__all__ = ["fuse_bias_gelu"]


class _BiasGelu(RewriteRuleClassBase):
    """Gelu(x + bias), exact and with a bias [K] on the last axis: one node."""

    def pattern(self, op, x, bias):  # type: ignore[no-untyped-def]
        return op.Gelu(op.Add(x, bias), _outputs=["gelu"])

    def check(self, context, gelu, x, bias, **_) -> MatchResult:  # type: ignore[no-untyped-def]
        result = MatchResult()
        if gelu.producer().attributes.get_string("approximate", "none") != "none":
            return result.fail("BiasGelu is the exact Gelu, this one is approximated", gelu)
        if not bias.is_initializer() or bias.shape is None or bias.shape.rank() != 1:
            return result.fail("the bias is not a stored vector", bias)
        if gelu.shape is None or gelu.shape[-1] != bias.shape[0]:
            return result.fail("the bias is not as long as the last axis", bias)
        return result

    def rewrite(self, op, x, bias, gelu, **_):  # type: ignore[no-untyped-def]
        name = gelu.producer().name.replace("/Gelu", "/BiasGelu")
        return op.BiasGelu(x, bias, _domain="com.microsoft", _name=name)


def fuse_bias_gelu(model: ir.Model) -> int:
    """Fuse every exact Gelu of a sum with a bias, in place; returns how many."""
    rules = RewriteRuleSet(_BiasGelu.rule().commute())
    count: int = rules.apply_to_model(model)
    return count
