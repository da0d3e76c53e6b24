"""The decoding loop: prompts to continuations, one token a step, with or without a cache."""

from collections.abc import Callable, Sequence

import numpy as np

from bertrt.artifact.graph_io import PAST, PRESENT

__all__ = ["Choose", "Run", "generate"]

# The graph: named arrays in, named arrays out.
Run = Callable[..., dict[str, np.ndarray]]
# Scores [B, V], the ids so far [B, S] and the rows' numbers to one token a row, int64 [B].
Choose = Callable[[np.ndarray, np.ndarray, Sequence[int]], np.ndarray]


def generate(
    run: Run, prompts: np.ndarray, *, steps: int, stop: Sequence[int], choose: Choose
) -> list[list[int]]:
    """Continue each prompt by up to `steps` tokens.

    Args:
        run: the graph. When it returns keys and values (`present.*`), a step reads the newest
            tokens only and gets the others from there; otherwise it reads every row anew, as it
            must where attention looks both ways, and as graphs for a GPU do.
        prompts: int64 [B, S], all of one length: BERT's positions are absolute, so that a padded
            prompt would be another one.
        stop: the tokens that end a row; the token itself is part of the result.
        choose: picks the next tokens. It is told which rows are left, by their numbers.

    Returns each row's new tokens.
    """
    result: list[list[int]] = [[] for _ in prompts]
    left = np.arange(len(prompts))
    ids = unread = prompts
    past: dict[str, np.ndarray] = {}
    for _ in range(steps):
        mask = np.ones(ids.shape, dtype=np.int64)
        outputs = run(input_ids=unread, attention_mask=mask, **past)
        tokens = choose(outputs["logits"][:, -1], ids, left.tolist())
        for row, token in zip(left, tokens, strict=True):
            result[row].append(int(token))
        going = ~np.isin(tokens, stop)
        if not going.any():
            break
        ids = np.concatenate([ids, tokens[:, None]], axis=1)
        past = {
            name.replace(PRESENT, PAST, 1): value
            for name, value in outputs.items()
            if name.startswith(f"{PRESENT}.")
        }
        if not going.all():
            left, ids = left[going], ids[going]
            past = {name: value[going] for name, value in past.items()}
        unread = ids[:, -1:] if past else ids
    return result
