"""Pack: remove the padding of a batch and concatenate its tokens."""

import math

import numpy as np

from bertrt.kernels.ops.operator import Stage, operator

__all__ = ["pack"]


@operator(Stage.ENTRY, "ids", "types", "positions", "rows", "offsets")
def pack(
    input_ids: np.ndarray,
    token_type_ids: np.ndarray,
    attention_mask: np.ndarray,
    *,
    padding_id: int = -1,
) -> tuple[np.ndarray, ...]:
    """Return the tokens that the mask selects, in order, and where each sequence begins.

    Args:
        input_ids, token_type_ids, attention_mask: integers [..., S]; the leading axes
            together hold B sequences.
        padding_id: with -1, a token's position is its place in the sequence. Otherwise it is the
            number of tokens up to it that are not this one, plus `padding_id`, or `padding_id` for
            these.

    Returns, all int32:
        ids, types, positions: [T], each token's id, its type, and its position.
        rows: [T], each token's index into the padded batch, flattened to B·S; ascending.
        offsets: [B + 1]; sequence b holds the tokens offsets[b] to offsets[b + 1].
    """
    *batch, length = input_ids.shape
    sequences = math.prod(batch)
    # Most batches with padding have some in the last column, which is looked at first.
    if attention_mask[..., -1:].all() and attention_mask.all():
        return _pack_everything(input_ids, token_type_ids, sequences, length, padding_id)
    mask = attention_mask.reshape(sequences, length) != 0
    rows = np.flatnonzero(mask)
    counts = mask.sum(axis=1)
    packed = (
        input_ids.reshape(-1)[rows],
        token_type_ids.reshape(-1)[rows],
        _positions(input_ids.reshape(sequences, length), padding_id).reshape(-1)[rows],
        rows,
        np.concatenate([[0], np.cumsum(counts)]),
    )
    return tuple(array.astype(np.int32) for array in packed)


def _pack_everything(
    input_ids: np.ndarray,
    token_type_ids: np.ndarray,
    sequences: int,
    length: int,
    padding_id: int,
) -> tuple[np.ndarray, ...]:
    """Return what `pack` does if the mask selects every token, with little work."""
    rows = np.arange(sequences * length, dtype=np.int32)
    return (
        input_ids.reshape(-1).astype(np.int32),
        token_type_ids.reshape(-1).astype(np.int32),
        _positions(input_ids.reshape(sequences, length), padding_id).reshape(-1),
        rows,
        np.arange(sequences + 1, dtype=np.int32) * np.int32(length),
    )


def _positions(ids: np.ndarray, padding_id: int) -> np.ndarray:
    """Return the position of each token of ids [B, S], int32 [B, S]."""
    positions = np.empty(ids.shape, np.int32)
    if padding_id < 0:
        positions[:] = np.arange(ids.shape[1])
    else:
        counted = ids != padding_id
        positions[:] = np.cumsum(counted, axis=1) * counted + padding_id
    return positions
