"""The parts of a manifest that describe the exported graph and the packages that made it."""

import importlib.metadata
import platform
from typing import Any

import onnx_ir as ir

from bertrt._version import __version__
from bertrt.artifact.graph_io import SENTENCE_EMBEDDING
from bertrt.artifact.manifest import Graph, TensorSpec, Variant
from bertrt.artifact.targets import Target
from bertrt.engines.ort import onnxruntime
from bertrt.export.tracing.torch_export import OPSET

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
    """Describe a graph for the manifest.

    Args:
        model: the graph as it was saved.
        file: the name of its file.
        target: the target that it was made for.
        dtype: its dtype.
        fused: the number of each fused operator in it.
        variants: its files for some processors.
    """
    return Graph(
        file=file,
        opset=model.opset_imports[""],
        least_onnxruntime=(
            "" if target.engine == "triton" else _least_onnxruntime(model.opset_imports[""], dtype)
        ),
        inputs=tuple(spec_of(value) for value in model.graph.inputs),
        outputs=tuple(spec_of(value) for value in model.graph.outputs),
        fused=fused,
        least=target.least,
        variants=variants,
    )


def spec_of(value: Any) -> TensorSpec:
    """Describe a graph's input or output; those that a caller may leave out are optional."""
    shape = tuple(size if isinstance(size, int) else str(size.value) for size in value.shape)
    optional = value.is_initializer() or value.name == SENTENCE_EMBEDDING
    return TensorSpec(value.name, str(value.dtype.numpy()), shape, optional)


def versions() -> dict[str, str]:
    """Return the versions of bertrt, Python and the packages that an export uses."""
    return {
        "bertrt": __version__,
        "python": platform.python_version(),
        # The wheels for CPU and GPU have different names.
        "onnxruntime": onnxruntime().__version__,
        **{name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def _least_onnxruntime(opset: int, dtype: str) -> str:
    """Return the first ONNX Runtime that was seen to run such graphs.

    1.22 lacks opset 23's Attention, and 1.23 its QuantizeLinear.
    """
    if opset < OPSET:
        return "1.22.0"
    return "1.24.1" if dtype == "int8" else "1.23.0"
