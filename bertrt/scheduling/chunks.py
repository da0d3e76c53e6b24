"""Run a large batch in chunks whose activations fit in the caches, and join the outputs.

Rows of a batch do not see each other, so the answers are those of one run. Each chunk reads all
weights again: chunks below the token budget lose by that, and about 1.5 budgets are fastest.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from bertrt.artifact.graph_io import MASKED_ONLY
from bertrt.scheduling.workers import Workers, run_in_order

__all__ = ["run_in_chunks", "split_batch", "split_for_workers"]

Arrays = Mapping[str, np.ndarray]


def split_batch(rows: int, tokens: int, budget: int) -> list[slice]:
    """Return the rows of each chunk: as even as possible, with one to two budgets of tokens each.

    Args:
        rows: the batch size B.
        tokens: the number of tokens in all rows, padding included.
        budget: the most padded tokens of a batch, as for `batching.plan`.
    """
    return _split_evenly(rows, 1 if tokens < 2 * budget else math.ceil(tokens / (1.75 * budget)))


def split_for_workers(rows: int, tokens: int, budget: int, workers: int) -> list[slice]:
    """Return the rows of each chunk, with as many chunks for each of the workers.

    A batch with less than one budget for each worker is one chunk.
    """
    share = tokens / workers
    return _split_evenly(
        rows, 1 if share < budget else workers * max(1, round(share / (1.5 * budget)))
    )


def _split_evenly(rows: int, chunks: int) -> list[slice]:
    """Return slices whose lengths differ by one row at most, the longer ones first."""
    chunks = min(rows, chunks)
    length, longer = divmod(rows, chunks)
    stops = [number * length + min(number, longer) for number in range(chunks + 1)]
    return [slice(start, stop) for start, stop in pairwise(stops)]


def run_in_chunks(
    run: Callable[[Arrays], dict[str, np.ndarray]],
    inputs: Arrays,
    slices: Sequence[slice],
    workers: Workers | None = None,
) -> dict[str, np.ndarray]:
    """Run a batch in chunks and return its outputs as one run would.

    Args:
        run: runs the graph on inputs.
        inputs: `input_ids` [B, …, S], other arrays that begin with B, and scalar flags.
        slices: the rows of each chunk.
        workers: run the chunks side by side; one after the other when None.
    """
    if len(slices) == 1:
        return run(inputs)

    def run_chunk(rows: slice) -> dict[str, np.ndarray]:
        return run({name: array[rows] if array.ndim else array for name, array in inputs.items()})

    results = run_in_order((partial(run_chunk, rows) for rows in slices), workers)
    if inputs.get(MASKED_ONLY):
        chunks = list(results)  # one row for each mask token, so their number is not known before
        return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}
    batch = len(inputs["input_ids"])
    outputs: dict[str, np.ndarray] = {}
    for rows, result in zip(slices, results, strict=True):
        for name, value in result.items():
            factor = len(value) // (rows.stop - rows.start)  # hidden states of choices have B x C
            if name not in outputs:
                outputs[name] = np.empty((batch * factor, *value.shape[1:]), value.dtype)
            outputs[name][rows.start * factor : rows.stop * factor] = value
    return outputs
