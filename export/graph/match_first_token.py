"""Match the first token's hidden state, where poolers start."""

import onnx_ir as ir

__all__ = ["gathers_first_token"]


def gathers_first_token(node: ir.Node) -> bool:
    """Whether the node is Gather(x, 0, axis=1)."""
    if node.op_type != "Gather" or node.attributes.get_int("axis", 0) != 1:
        return False
    index = node.inputs[1].const_value
    return index is not None and index.numpy().tolist() == 0
