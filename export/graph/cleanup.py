"""Clean graphs: fold constants, remove no-ops, name nodes and values, drop local paths."""

import ast
from collections import Counter

import onnx_ir as ir
import onnx_ir.passes.common as common_passes
import onnxscript.optimizer
from onnxscript.rewriter import pattern
from onnxscript.rewriter.rules.common import (
    collapse_slice2_rule,
    collapse_slice_rule,
    unsqueeze_unsqueeze_rule,
)

from bertrt._version import __version__

__all__ = ["clean", "tidy"]

_NO_OPS = pattern.RewriteRuleSet(
    [collapse_slice_rule, collapse_slice2_rule, unsqueeze_unsqueeze_rule]
)
_SCOPES = "pkg.torch.onnx.name_scopes"


def tidy(model: ir.Model, parameters: dict[str, str]) -> None:
    """Clean a graph that torch.onnx.export has just made, in place.

    Args:
        model: the graph, not optimized.
        parameters: maps the exporter's name of each initializer to its new name.
    """
    _rename_initializers(model.graph, parameters)
    # Transposes of weights stay nodes here: `fold_transposed_weights` decides which to store.
    onnxscript.optimizer.fold_constants(
        model, should_fold=lambda node: False if node.op_type == "Transpose" else None
    )
    _NO_OPS.apply_to_model(model)
    _name_nodes(model.graph)
    clean(model)
    model.producer_name = "bertrt"
    model.producer_version = __version__
    model.graph.name = "bert"


def clean(model: ir.Model) -> None:
    """Remove unused nodes, merge equal ones, and name new nodes' values, in place.

    All metadata and doc strings are removed: those of torch.onnx.export hold local paths.
    """
    common_passes.IdentityEliminationPass()(model)
    common_passes.CommonSubexpressionEliminationPass()(model)
    common_passes.RemoveUnusedNodesPass()(model)
    common_passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    common_passes.RemoveUnusedOpsetsPass()(model)
    common_passes.ClearMetadataAndDocStringPass()(model)
    _clear_metadata(model)
    _name_values(model.graph)


def _clear_metadata(model: ir.Model) -> None:
    """Clear the model and its values; `ClearMetadataAndDocStringPass` clears nodes and graphs."""
    graph = model.graph
    model.metadata_props.clear()
    graph.metadata_props.clear()
    outputs = [value for node in graph for value in node.outputs]
    for value in [*graph.inputs, *graph.initializers.values(), *outputs]:
        value.metadata_props.clear()
        value.doc_string = None


def _rename_initializers(graph: ir.Graph, parameters: dict[str, str]) -> None:
    for name in list(graph.initializers):
        if name in parameters:
            value = graph.initializers.pop(name)
            value.name = parameters[name]
            graph.register_initializer(value)


def _name_nodes(graph: ir.Graph) -> None:
    """Name each node after its module and operator: `bert.embeddings.LayerNorm/Add`."""
    seen: Counter[str] = Counter()
    for node in graph:
        scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
        # The first scope is the wrapper, the second the model in it, the last the operator.
        module = scopes[-2].removeprefix("model").removeprefix(".") if len(scopes) > 2 else ""
        stem = f"{module}/{node.op_type}" if module else node.op_type
        node.name = f"{stem}_{seen[stem]}" if seen[stem] else stem
        seen[stem] += 1


def _name_values(graph: ir.Graph) -> None:
    """Name each value after its node, and number the constants."""
    boundary = {id(value) for value in [*graph.inputs, *graph.outputs]}
    for node in graph:
        for index, value in enumerate(node.outputs):
            if id(value) not in boundary:
                value.name = node.name if len(node.outputs) == 1 else f"{node.name}.{index}"
    # A parameter's name has a dot, a constant's has none.
    constants = [
        value
        for value in graph.initializers.values()
        if "." not in str(value.name) and id(value) not in boundary
    ]
    for value in constants:
        graph.initializers.pop(str(value.name))
    for index, value in enumerate(constants):
        value.name = f"constant_{index}"
        graph.register_initializer(value)
