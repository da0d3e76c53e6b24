"""Residual sums without a bias of their own: the normalization before brings it along.

A block of BERT is LayerNormalization(y + f(y) + c), where y comes of another LayerNormalization
and c is the bias of f's last linear layer. With y + c in the place of y no Add is left for c.
"""

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.match_residual import residual_block

__all__ = ["fold_residual_biases"]


def fold_residual_biases(model: ir.Model) -> int:
    """Move the bias of each residual sum into the LayerNormalization before, in place.

    The new biases are computed in float64. A normalization that is an output, or that anything but
    a block reads, is left alone. Returns how many biases were moved.
    """
    graph = model.graph
    count = 0
    for norm in [node for node in graph if node.op_type == "LayerNormalization"]:
        block = residual_block(norm)
        if block is None:
            continue
        block.move(block.last.drop_bias(graph).astype(np.float64))
        count += 1
    return count
