"""What an export writes down about its graph, and about what made it."""

import importlib.metadata
import platform
from typing import Any

import onnx_ir as ir

from bertrt._version import __version__
from bertrt.artifact.graph_io import EMBEDDINGS
from bertrt.artifact.manifest import Graph, TensorSpec, Variant
from bertrt.artifact.targets import Target
from bertrt.engines.ort import onnxruntime

__all__ = ["describe_graph", "spec_of", "versions"]

_PACKAGES = ("torch", "transformers", "onnx", "onnxscript", "onnx_ir", "tokenizers")


def describe_graph(
    model: ir.Model,
    file: str,
    target: Target,
    dtype: str,
    fused: dict[str, int],
    variants: tuple[Variant, ...] = (),
) -> Graph:
    """A graph as the manifest has it.

    Args:
        model: the graph as it was saved.
        file: the name of its file.
        target, dtype: what it was made for.
        fused: how many of each fused operator it has.
        variants: its files for some processors.
    """
    return Graph(
        file=file,
        opset=model.opset_imports[""],
        least_onnxruntime="" if target.engine == "triton" else _least_onnxruntime(dtype),
        inputs=tuple(spec_of(value) for value in model.graph.inputs),
        outputs=tuple(spec_of(value) for value in model.graph.outputs),
        fused=fused,
        least=target.least,
        variants=variants,
    )


def spec_of(value: Any) -> TensorSpec:
    """A graph's input or output; those that a caller may leave out are optional."""
    shape = tuple(d if isinstance(d, int) else str(d.value) for d in value.shape)
    optional = value.is_initializer() or value.name in EMBEDDINGS
    return TensorSpec(value.name, str(value.dtype.numpy()), shape, optional)


def versions() -> dict[str, str]:
    """The versions of bertrt, Python and the packages that an export is made with."""
    return {
        "bertrt": __version__,
        "python": platform.python_version(),
        # Its wheels for CPU and GPU have different names.
        "onnxruntime": onnxruntime().__version__,
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def _least_onnxruntime(dtype: str) -> str:
    """The first ONNX Runtime seen to run such graphs.

    1.22 lacks opset 23's Attention, and 1.23 its QuantizeLinear.
    """
    return "1.24.1" if dtype == "int8" else "1.23.0"
