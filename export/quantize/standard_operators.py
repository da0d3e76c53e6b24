"""MatMulIntegerToFloat → the standard operators that every ONNX runtime has.

The form is "QDQ": both factors are dequantized, and multiplied in float32. A runtime that knows the
form, as ONNX Runtime does, multiplies the integers; any other one gets the same numbers.
"""

import onnx_ir as ir

from bertrt.export.graph.edit import replace_value

__all__ = ["use_standard_operators"]


def use_standard_operators(model: ir.Model) -> dict[str, int]:
    """Replace every MatMulIntegerToFloat, in place; returns the numbers of both operators."""
    graph = model.graph
    products = [node for node in graph if node.op_type == "MatMulIntegerToFloat"]
    sources: dict[ir.Value, ir.Value] = {}
    for node in products:
        _replace(graph, node, sources)
    model.opset_imports.pop("com.microsoft", None)
    return {"MatMulIntegerToFloat": 0, "DequantizeLinear": len(products) + len(sources)}


def _replace(graph: ir.Graph, node: ir.Node, sources: dict[ir.Value, ir.Value]) -> None:
    """Replace one node; `sources` maps quantized inputs to dequantized ones, and is added to."""
    numbers, weight, scale, weight_scale, zero, _, bias = node.inputs
    scope = str(node.name).replace("/MatMulIntegerToFloat", "")
    nodes: list[ir.Node] = []

    def add(operator: str, inputs: list[ir.Value], part: str, **attributes: int) -> ir.Value:
        nodes.append(ir.node(operator, inputs, attributes, name=f"{scope}/{part}"))
        nodes[-1].outputs[0].name = nodes[-1].name
        output: ir.Value = nodes[-1].outputs[0]
        return output

    if numbers not in sources:
        inputs = [numbers, scale, zero]
        sources[numbers] = add("DequantizeLinear", inputs, "DequantizeLinear")
    source = sources[numbers]
    # A weight has a scale for each column, and its zero is 0.
    matrix = add("DequantizeLinear", [weight, weight_scale], "DequantizeLinear_1", axis=1)
    product = add("Add", [add("MatMul", [source, matrix], "MatMul"), bias], "Add")
    graph.insert_before(node, nodes)
    replace_value(node.outputs[0], product)
    graph.remove(node, safe=True)
