"""Write the variants of a graph: the same function and weights, in operators for some processors.

The graph that is fastest with AVX-512 is slower than another one without it, and an artifact may be
copied to any machine. So the artifact holds both, and the runtime opens the one for its processor.
"""

from pathlib import Path

import onnx_ir as ir

from bertrt.artifact.manifest import Variant
from bertrt.artifact.targets import Target
from bertrt.errors import ExportError
from bertrt.export.fusion.convolutions import make_convolutions
from bertrt.export.graph.cleanup import clean
from bertrt.export.pipelines.cpu import OUTPUT_MAJOR_PRODUCT

__all__ = ["has_variants", "write_variants"]


def has_variants(target: Target, dtype: str) -> bool:
    """Whether a target's graphs in this dtype have variants."""
    return target.name == "cpu" and dtype == "float32"


def write_variants(graph: Path, fused: dict[str, int]) -> tuple[Variant, ...]:
    """Write a saved graph's variants beside it.

    Args:
        graph: the file, with its weights in another file beside it.
        fused: the number of each operator in it.

    Raises ExportError if a variant lacks the operators that it is for.
    """
    model = ir.load(graph)
    count = make_convolutions(model)
    products = fused.get(OUTPUT_MAJOR_PRODUCT, 0)
    if count != products:
        raise ExportError(
            f"the graph for AVX-512 has {count} convolutions for {products} products: this is an "
            "error in bertrt, or a version of transformers that it does not know"
        )
    clean(model)
    path = graph.with_name(f"{graph.stem}_avx512{graph.suffix}")
    ir.save(model, path)
    return (Variant("avx512f", path.name, {"Conv": count}),)
