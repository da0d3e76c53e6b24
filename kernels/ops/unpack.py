"""Unpack: restore the padded shape of the inputs."""

import numpy as np

from bertrt.kernels.ops.operator import Stage, operator

__all__ = ["unpack"]


@operator(Stage.EXIT, "padded")
def unpack(
    x: np.ndarray, input_ids: np.ndarray, rows: np.ndarray, only: np.ndarray | None = None
) -> np.ndarray:
    """Put each row back at its token's position, with zeros for padding.

    Args:
        x: [T, F]; [R, F] if `only` is True.
        input_ids: [..., S], the graph's input.
        rows: int32 [T], from Pack.
        only: bool []; True if x holds only the rows of picked tokens, which then stay packed.
            False if omitted.

    Returns [..., S, F], in x's dtype; [R, 1, F] if `only` is True.
    """
    if only is not None and only:
        return x[:, None]
    padded = np.zeros((input_ids.size, x.shape[1]), x.dtype)
    padded[rows] = x
    return padded.reshape(*input_ids.shape, x.shape[1])
