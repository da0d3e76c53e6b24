"""Products by rows of a stored matrix, whose bytes are shared with that matrix's in the file.

A graph says "rows 0 to 8,191 of the word embeddings, transposed". ONNX Runtime computes such
slices when it opens the graph, all of them before it packs the first one: two more copies of the
matrix while it opens, and one that stays. Here each slice is a stored tensor of its own, at the
place in the file of weights where its rows are, and the product reads it transposed.
"""

from pathlib import Path

import onnx_ir as ir

from bertrt.export.graph.cleanup import clean
from bertrt.export.graph.values import is_read_once, is_stored

__all__ = ["share_slices"]


def share_slices(path: Path) -> int:
    """Replace MatMuls by transposed slices of stored rows in a saved graph; returns the count.

    The weights must be beside the graph; their file stays as it is. The products become
    com.microsoft FusedMatMul.
    """
    model = ir.load(path)
    products = [node for node in model.graph if _share(model.graph, node)]
    if products:
        model.opset_imports.setdefault("com.microsoft", 1)
        clean(model)
        ir.save(model, path)
    return len(products)


def _share(graph: ir.Graph, product: ir.Node) -> bool:
    rows = _sliced_rows(product)
    if rows is None:
        return False
    weight, start, stop = rows
    whole = weight.const_value
    row = whole.nbytes // whole.shape[0]
    name = f"{weight.name}.{start}"
    tensor = ir.ExternalTensor(
        whole.location,
        (whole.offset or 0) + start * row,
        (stop - start) * row,
        whole.dtype,
        shape=ir.Shape([stop - start, *whole.shape[1:]]),
        name=name,
        base_dir=whole.base_dir,
    )
    shared = ir.Value(
        name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    graph.register_initializer(shared)
    product.replace_input_with(1, shared)
    product.op_type, product.domain = "FusedMatMul", "com.microsoft"
    product.attributes["transB"] = ir.AttrInt64("transB", 1)
    return True


def _sliced_rows(product: ir.Node) -> tuple[ir.Value, int, int] | None:
    """Return the stored matrix whose rows start to stop a MatMul reads transposed, or None."""
    if product.op_type != "MatMul":
        return None
    transpose = product.inputs[1].producer()
    if transpose is None or transpose.op_type != "Transpose":
        return None
    sliced = transpose.inputs[0].producer()
    if sliced is None or sliced.op_type != "Slice" or len(sliced.inputs) != 5:
        return None
    weight, *bounds = sliced.inputs
    if not all(is_read_once(node.outputs[0]) for node in (transpose, sliced)):
        return None
    if not (is_stored(weight) and isinstance(weight.const_value, ir.ExternalTensor)):
        return None
    if weight.shape.rank() != 2 or not all(is_stored(bound) for bound in bounds):
        return None
    start, stop, axis, step = (int(bound.const_value.numpy().item()) for bound in bounds)
    size = weight.shape[0]
    if axis != 0 or step != 1 or not 0 <= start < stop:
        return None
    return weight, start, min(stop, size)
