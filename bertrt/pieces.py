"""A large batch through the graph in pieces whose activations the caches hold; outputs joined.

Rows of a batch do not see each other, so the answers are those of one run. What is left to weigh
is that each piece reads all weights anew: pieces below the budget lose by that.
"""

import math
from collections.abc import Callable, Mapping
from itertools import pairwise

import numpy as np

__all__ = ["run_in_pieces", "split_batch"]

Arrays = Mapping[str, np.ndarray]


def split_batch(rows: int, tokens: int, budget: int) -> list[slice]:
    """The rows of each piece: as even as can be, and of about `budget` tokens to twice that.

    Args:
        rows: of the batch.
        tokens: of all its rows, padding included.
        budget: of padded tokens, as for `batching.plan`.
    """
    # Beyond twice the budget some 1.5 times as many tokens are the fastest.
    count = 1 if tokens < 2 * budget else min(rows, math.ceil(tokens / (1.75 * budget)))
    ends = [rows * number // count for number in range(count + 1)]
    return [slice(start, end) for start, end in pairwise(ends)]


def run_in_pieces(
    run: Callable[[Arrays], dict[str, np.ndarray]], feeds: Arrays, budget: int
) -> dict[str, np.ndarray]:
    """Run a batch, a large one in pieces, and return its outputs as of one run.

    Args:
        run: runs the graph on feeds.
        feeds: `input_ids` [B, …, S], whatever else begins with B, and truth values.
        budget: about how many padded tokens suit the caches.
    """
    rows = len(feeds["input_ids"])
    slices = split_batch(rows, feeds["input_ids"].size, budget)
    if len(slices) == 1:
        return run(feeds)

    def piece(of: slice) -> dict[str, np.ndarray]:
        return run({name: feed[of] if feed.ndim else feed for name, feed in feeds.items()})

    if feeds.get("masked_only"):
        parts = [piece(one) for one in slices]  # a row for each mask token: nobody knows how many
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    outputs: dict[str, np.ndarray] = {}
    for one in slices:
        for name, value in piece(one).items():
            each = len(value) // (one.stop - one.start)  # with choices, hidden states have B x C
            if name not in outputs:
                outputs[name] = np.empty((rows * each, *value.shape[1:]), value.dtype)
            outputs[name][one.start * each : one.stop * each] = value
    return outputs
