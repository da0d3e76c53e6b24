"""The same graph once more, for processors on which other operators are faster; weights are shared.

A graph that is fastest with AVX-512 is slower than another where there is none, and an artifact
goes wherever it is copied to. So it holds both, and the runtime opens the one for its processor.
"""

from pathlib import Path

import onnx_ir as ir

from bertrt.artifact.manifest import Variant
from bertrt.artifact.targets import Target
from bertrt.errors import ExportError
from bertrt.export.fusion.convolutions import make_convolutions
from bertrt.export.graph.cleanup import clean
from bertrt.export.pipelines.cpu import PRODUCTS

__all__ = ["has_variants", "write_variants"]


def has_variants(target: Target, dtype: str) -> bool:
    """Whether a target's graphs in this dtype differ from one processor to another."""
    return target.name == "cpu" and dtype == "float32"


def write_variants(graph: Path, fused: dict[str, int]) -> tuple[Variant, ...]:
    """Write a saved graph's variants beside it.

    Args:
        graph: the file, with its weights in another beside it.
        fused: how many of each operator it has.

    Raises ExportError when a variant would not have the operators that it is for.
    """
    model = ir.load(graph)
    count = make_convolutions(model)
    if count != fused.get(PRODUCTS, 0):
        raise ExportError(
            f"the graph for AVX-512 has {count} convolutions for {fused.get(PRODUCTS, 0)} products:"
            " that is an error in bertrt, or a transformers that it does not know"
        )
    clean(model)
    path = graph.with_name(f"{graph.stem}_avx512{graph.suffix}")
    ir.save(model, path)
    return (Variant("avx512f", path.name, {"Conv": count}),)
