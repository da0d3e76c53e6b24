"""Write a graph's file, with the weights in it or beside it."""

from pathlib import Path

import onnx_ir as ir

from bertrt.export.graph.equal_weights import equal_weights, share_weights

__all__ = ["save_graph"]

# Above this many bytes, weights are stored beside the graph. ONNX Runtime maps them into memory and
# opens them twice as fast as a protobuf that holds them, which is limited to 2 GB.
_LARGEST_INLINE = 16_000_000
# What a protobuf can hold, with room for the graph itself.
_LARGEST_PROTOBUF = 2_000_000_000


def save_graph(
    model: ir.Model, path: Path, *, external_weights: bool = False, inline: bool = False
) -> None:
    """Write a graph, replacing the one that is there. Equal weights are stored once.

    Args:
        model: the graph.
        path: its file.
        external_weights: store the weights beside the graph whatever their size, so that other
            graphs can share them.
        inline: store the weights in the graph's file as long as a protobuf can hold them, for
            runtimes that look for one file.
    """
    path.parent.mkdir(exist_ok=True)
    for old in path.parent.glob(f"{path.name}*"):
        old.unlink()
    if any(equal_weights(model)):
        model = model.clone()  # whose weights may still change, each for itself
        share_weights(model)
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values())
    external = external_weights or size > (_LARGEST_PROTOBUF if inline else _LARGEST_INLINE)
    # The name that Optimum looks for on the hub.
    ir.save(model, path, external_data=f"{path.name}_data" if external else None)
