"""Measure how much of PyTorch's own float32 answer is rounding, against its float64 answer."""

import copy
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import torch

from bertrt.export.heads import HeadSpec
from bertrt.export.parity.comparison import Comparison
from bertrt.export.parity.harness import (
    SHAPES,
    Arrays,
    has_columns,
    random_inputs,
    run_model,
    shape_name,
    valid_positions,
)
from bertrt.export.parity.optional_paths import optional_paths
from bertrt.export.vector_modules import VectorModules

__all__ = ["measure_rounding"]

# More rows than the graph is run on, since PyTorch may be right by chance in a few.
_MORE = (16, 20)


def measure_rounding(
    model: torch.nn.Module,
    head: HeadSpec,
    mask_id: int | None,
    extra_outputs: Sequence[str],
    vectors: VectorModules | None,
    graph_inputs: Collection[str],
    graph_outputs: Collection[str],
    reference: torch.nn.Module | None = None,
) -> dict[str, np.ndarray]:
    """Run the model in float32 and float64 on the inputs of the parity check, and some more.

    Args:
        model: the model that was traced, float32, in eval mode.
        head, mask_id, extra_outputs, vectors, reference: as for `check_parity`.
        graph_inputs, graph_outputs: the graph's inputs that have a default, and its outputs.

    Returns the largest difference in each column of each output and optional path, float [n].
    """
    right = model if reference is None else reference
    exact_model = copy.deepcopy(right).double()
    exact_vectors = None if vectors is None else copy.deepcopy(vectors).double()

    def answers(
        of: torch.nn.Module, of_vectors: VectorModules | None, inputs: Arrays
    ) -> Iterator[tuple[str, Arrays]]:
        reference = run_model(of, head, inputs, extra_outputs)
        for name, value in reference.items():
            valid = valid_positions(head, name, inputs["attention_mask"], value)
            yield name, {"value": value, "valid": valid}
        for path in optional_paths(
            graph_inputs, graph_outputs, inputs, reference, mask_id, of_vectors
        ):
            for name, value in path.expected.items():
                yield path.output_name(name), {"value": value, "valid": np.ones(value.shape, bool)}

    found: dict[str, Comparison] = {}
    for inputs in random_inputs(model, head, mask_id, (*SHAPES, _MORE)):
        exact = dict(answers(exact_model, exact_vectors, inputs))
        for name, eager in answers(right, vectors, inputs):
            if name not in found:
                found[name] = Comparison(name, by_column=has_columns(head, name))
            found[name].add(
                eager["value"], exact[name]["value"], eager["valid"], shape_name(inputs)
            )
    return {name: comparison.error for name, comparison in found.items()}
