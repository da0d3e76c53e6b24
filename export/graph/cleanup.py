"""The exporter's graph cleaned: constants folded, no-ops gone, neat names, no local paths."""

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
    """Clean a graph that the exporter has just made, in place.

    Args:
        model: the graph, not optimized.
        parameters: the exporter's name of each initializer to the name that it shall have.
    """
    _rename_initializers(model.graph, parameters)
    # Transposed weights are left as nodes here: whether they may be copied is decided later.
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
    """Drop what nothing uses, merge what is there twice, and name what is new, in place.

    Leaves no metadata or doc strings: the exporter's hold paths of the machine it ran on.
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
    """The pass before clears nodes and graphs; this, the model and its values."""
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
    """Name each node after the module that it comes from: `bert.embeddings.LayerNorm/Add`."""
    seen: Counter[str] = Counter()
    for node in graph:
        scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
        # The first is the wrapper, the second the model inside it, the last the operator.
        module = scopes[-2].removeprefix("model").removeprefix(".") if len(scopes) > 2 else ""
        stem = f"{module}/{node.op_type}" if module else node.op_type
        node.name = f"{stem}_{seen[stem]}" if seen[stem] else stem
        seen[stem] += 1


def _name_values(graph: ir.Graph) -> None:
    """Name each value after the node that makes it, and each small constant by its number."""
    ends = {id(value) for value in [*graph.inputs, *graph.outputs]}
    for node in graph:
        for index, value in enumerate(node.outputs):
            if id(value) not in ends:
                value.name = node.name if len(node.outputs) == 1 else f"{node.name}.{index}"
    # A parameter's name has a dot, a constant's has none.
    constants = [
        value
        for value in graph.initializers.values()
        if "." not in str(value.name) and id(value) not in ends
    ]
    for value in constants:
        graph.initializers.pop(str(value.name))
    for index, value in enumerate(constants):
        value.name = f"constant_{index}"
        graph.register_initializer(value)
