"""Pack: a padded batch to its tokens, one after the other, without the padding."""

import math

import numpy as np

from bertrt.kernels.ops.operator import Place, operator

__all__ = ["pack"]


@operator(Place.ENTRY, "ids", "types", "positions", "rows", "offsets")
def pack(
    input_ids: np.ndarray, token_type_ids: np.ndarray, attention_mask: np.ndarray
) -> tuple[np.ndarray, ...]:
    """The tokens that the mask counts, in order, and where each sequence begins.

    Args:
        input_ids, token_type_ids, attention_mask: integers [..., S]; all axes but the last
            together are the batch, of B sequences.

    Returns, all int32:
        ids, types, positions: [T], each token's id, type, and place in its sequence.
        rows: [T], each token's place among the B·S of the padded batch, ascending.
        offsets: [B + 1]; sequence b has the tokens offsets[b] to offsets[b + 1].
    """
    *batch, length = input_ids.shape
    mask = attention_mask.reshape(math.prod(batch), length) != 0
    rows = np.flatnonzero(mask)
    counts = mask.sum(axis=1)
    packed = (
        input_ids.reshape(-1)[rows],
        token_type_ids.reshape(-1)[rows],
        rows % length if length else rows,
        rows,
        np.concatenate([[0], np.cumsum(counts)]),
    )
    return tuple(array.astype(np.int32) for array in packed)
