"""Move the bias of a residual sum into the LayerNormalization before it.

A block of BERT is LayerNormalization(y + f(y) + c), where y is the output of another
LayerNormalization and c the bias of the last linear layer of f. With y + c instead of y, there is
no Add of c.
"""

import numpy as np
import onnx_ir as ir

from bertrt.export.graph.match_residual import residual_block

__all__ = ["fold_residual_biases"]

_LAYERS = "encoder.layer."


def fold_residual_biases(model: ir.Model) -> int:
    """Move the bias of each residual sum into the LayerNormalization before, in place.

    The new biases are computed in float64. A normalization that is a graph output, or that has
    readers outside a residual block, stays as it is, and so do layers behind the encoder. Returns
    the number of moved biases.
    """
    graph = model.graph
    count = 0
    for norm in [node for node in graph if node.op_type == "LayerNormalization"]:
        block = residual_block(norm)
        if block is None or _LAYERS not in str(block.last.weight.name):
            continue
        block.shift(block.last.drop_bias(graph).astype(np.float64))
        count += 1
    return count
