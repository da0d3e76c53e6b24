"""Regroup: one number a sequence, in the shape in which the sequences came."""

import numpy as np

from bertrt.kernels.ops.operator import Place, operator

__all__ = ["regroup"]


@operator(Place.EXIT, "grouped")
def regroup(x: np.ndarray, input_ids: np.ndarray) -> np.ndarray:
    """The numbers by batch and choice.

    Args:
        x: [n, 1], a number for each of the n sequences.
        input_ids: [..., S], as the graph was given it; n is the product of its leading axes.

    Returns [...], of x's dtype.
    """
    return x.reshape(input_ids.shape[:-1])
