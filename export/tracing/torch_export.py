"""Call torch.onnx.export for an opset, without the warnings that it gives for every model."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import onnx_ir as ir
import torch

__all__ = ["OPSET", "export_graph"]

# The first opset with an Attention operator, so that attention stays one node.
OPSET = 23

# Warnings that torch.onnx.export gives for every model, and that need no action.
_KNOWN_WARNINGS = (
    r"# The axis name: .* will not be used, since it shares the same shape constraints",
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
)


def export_graph(
    module: torch.nn.Module, arguments: tuple[Any, ...], axes: tuple[Any, ...]
) -> ir.Model:
    """Trace a module to an ONNX graph of opset 23, not optimized.

    Args:
        module: the module, in eval mode.
        arguments: example inputs.
        axes: the names of the dynamic axes of each.
    """
    with _without_known_warnings():
        program = torch.onnx.export(
            module,
            arguments,
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=axes,
            optimize=False,
            verbose=False,
        )
    model: ir.Model = program.model
    return model


@contextlib.contextmanager
def _without_known_warnings() -> Iterator[None]:
    """Silence the warnings that torch.onnx.export gives for every model, and no others."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns that torchvision is missing, which we do not use
    try:
        with warnings.catch_warnings():
            for message in _KNOWN_WARNINGS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        logger.setLevel(level)
