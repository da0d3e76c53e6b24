"""A large batch through the graph in pieces whose activations the caches hold; outputs joined.

Rows of a batch do not see each other, so the answers are those of one run. What is left to weigh
is that each piece reads all weights anew: pieces below the budget lose by that, and some 1.5
budgets are the fastest.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from bertrt.artifact.graph_io import MASKED_ONLY
from bertrt.scheduling.workers import Workers, side_by_side

__all__ = ["run_in_chunks", "share_batch", "split_batch"]

Arrays = Mapping[str, np.ndarray]


def split_batch(rows: int, tokens: int, budget: int) -> list[slice]:
    """The rows of each piece: as even as can be, and of about `budget` tokens to twice that.

    Args:
        rows: of the batch.
        tokens: of all its rows, padding included.
        budget: of padded tokens, as for `batching.plan`.
    """
    return _evenly(rows, 1 if tokens < 2 * budget else math.ceil(tokens / (1.75 * budget)))


def share_batch(rows: int, tokens: int, budget: int, workers: int) -> list[slice]:
    """The rows of each piece: as `split_batch`, and as many pieces for each of the workers.

    A batch of less than a budget for each is one piece.
    """
    each = tokens / workers
    return _evenly(rows, 1 if each < budget else workers * max(1, round(each / (1.5 * budget))))


def _evenly(rows: int, pieces: int) -> list[slice]:
    """Slices that differ by a row at most, the longer ones first."""
    pieces = min(rows, pieces)
    each, over = divmod(rows, pieces)
    ends = [number * each + min(number, over) for number in range(pieces + 1)]
    return [slice(start, end) for start, end in pairwise(ends)]


def run_in_chunks(
    run: Callable[[Arrays], dict[str, np.ndarray]],
    feeds: Arrays,
    slices: Sequence[slice],
    workers: Workers | None = None,
) -> dict[str, np.ndarray]:
    """Run a batch in pieces, and return its outputs as of one run.

    Args:
        run: runs the graph on feeds.
        feeds: `input_ids` [B, …, S], whatever else begins with B, and truth values.
        slices: the rows of each piece.
        workers: who run pieces side by side; else they are run one after the other.
    """
    if len(slices) == 1:
        return run(feeds)

    def piece(of: slice) -> dict[str, np.ndarray]:
        return run({name: feed[of] if feed.ndim else feed for name, feed in feeds.items()})

    results = side_by_side((partial(piece, one) for one in slices), workers)
    if feeds.get(MASKED_ONLY):
        parts = list(results)  # a row for each mask token: nobody knows how many
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    rows = len(feeds["input_ids"])
    outputs: dict[str, np.ndarray] = {}
    for one, result in zip(slices, results, strict=True):
        for name, value in result.items():
            each = len(value) // (one.stop - one.start)  # with choices, hidden states have B x C
            if name not in outputs:
                outputs[name] = np.empty((rows * each, *value.shape[1:]), value.dtype)
            outputs[name][one.start * each : one.stop * each] = value
    return outputs
