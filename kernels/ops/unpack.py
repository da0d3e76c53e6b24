"""Unpack: packed rows back to the padded shape of the inputs."""

import numpy as np

from bertrt.kernels.ops.operator import Place, operator

__all__ = ["unpack"]


@operator(Place.EXIT, "padded")
def unpack(
    x: np.ndarray, input_ids: np.ndarray, rows: np.ndarray, only: np.ndarray | None = None
) -> np.ndarray:
    """Each row where its token was, and zeros where there was none.

    Args:
        x: [T, F]; [R, F] where `only` is True.
        input_ids: [..., S], as the graph was given it.
        rows: int32 [T], as from Pack.
        only: bool []; where it is True, x holds the rows of picked tokens alone, and nothing is
            put back. False when left out.

    Returns [..., S, F] of x's dtype; [R, 1, F] where `only` is True.
    """
    if only is not None and only:
        return x[:, None]
    padded = np.zeros((input_ids.size, x.shape[1]), x.dtype)
    padded[rows] = x
    return padded.reshape(*input_ids.shape, x.shape[1])
