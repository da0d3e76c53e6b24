"""Regroup: give one number per sequence the batch shape of the inputs."""

import numpy as np

from bertrt.kernels.ops.operator import Stage, operator

__all__ = ["regroup"]


@operator(Stage.EXIT, "grouped")
def regroup(x: np.ndarray, input_ids: np.ndarray) -> np.ndarray:
    """Reshape one number per sequence to the leading axes of `input_ids`.

    Args:
        x: [n, 1], one number for each of n sequences.
        input_ids: [..., S], the graph's input; n is the product of its leading axes.

    Returns [...], in x's dtype.
    """
    return x.reshape(input_ids.shape[:-1])
