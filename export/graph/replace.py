"""One value in the place of another."""

import onnx_ir as ir

__all__ = ["replace_value"]


def replace_value(old: ir.Value, new: ir.Value) -> None:
    """Have everything that read `old` read `new`, which is then the graph's output if that was."""
    is_output = old.is_graph_output()
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    if is_output:
        name, old.name = old.name, None
        new.name, new.shape, new.type = name, old.shape, old.type
