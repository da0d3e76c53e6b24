"""Write a graph's file, with the weights in it or beside it."""

from pathlib import Path

import onnx_ir as ir

__all__ = ["save_graph"]

_GRAPH = "model.onnx"
# The name that Optimum looks for on the hub.
_WEIGHTS = "model.onnx_data"
# Above this many bytes, weights are stored beside the graph. ONNX Runtime maps them into memory and
# opens them twice as fast as a protobuf that holds them, which is limited to 2 GB.
_LARGEST_INLINE = 16_000_000


def save_graph(model: ir.Model, directory: Path, *, external_weights: bool = False) -> Path:
    """Write a graph to a directory, replacing the one that is there.

    Args:
        model: the graph.
        directory: an existing directory.
        external_weights: store the weights beside the graph whatever their size, so that other
            graphs can share them.

    Returns the path of the graph's file.
    """
    for old in directory.glob(f"{_GRAPH}*"):
        old.unlink()
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values())
    external = _WEIGHTS if external_weights or size > _LARGEST_INLINE else None
    path = directory / _GRAPH
    ir.save(model, path, external_data=external)
    return path
