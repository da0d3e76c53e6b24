"""The decoding loop: continue prompts one token at a time, with or without a key/value cache."""

from collections.abc import Callable, Sequence

import numpy as np

from bertrt.artifact.graph_io import PAST, PRESENT

__all__ = ["ChooseTokens", "RunGraph", "generate"]

# Runs the graph on named arrays and returns its outputs by name.
RunGraph = Callable[..., dict[str, np.ndarray]]
# Maps scores [B, V], the ids so far [B, S] and the indices of the prompts [B] to the next tokens,
# int64 [B].
ChooseTokens = Callable[[np.ndarray, np.ndarray, Sequence[int]], np.ndarray]


def generate(
    run: RunGraph,
    prompts: np.ndarray,
    *,
    max_new_tokens: int,
    stop_tokens: Sequence[int],
    choose: ChooseTokens,
    uncounted_token: int | None = None,
) -> list[list[int]]:
    """Continue each prompt by up to `max_new_tokens` tokens; return the new tokens of each.

    Args:
        run: runs the graph. If it returns keys and values (`present.*`), each step runs the newest
            tokens only, with a cache of the others. If not, each step runs all tokens again: this
            is so where attention is bidirectional, and for graphs that are made for a GPU.
        prompts: int64 [B, S], without padding: BERT's positions are absolute, so that padding
            would change the answer.
        max_new_tokens: the maximum number of new tokens of each prompt.
        stop_tokens: tokens that end a continuation; the token itself is part of the result.
        choose: chooses the next tokens of the prompts that have not ended; it receives their
            indices.
        uncounted_token: a token that the model's positions do not count. A cache does not say how
            many of its tokens are counted, so with this one among the ids, each step runs all
            tokens.
    """
    continuations: list[list[int]] = [[] for _ in prompts]
    active = np.arange(len(prompts))
    ids = input_ids = prompts
    past: dict[str, np.ndarray] = {}
    for _ in range(max_new_tokens):
        mask = np.ones(ids.shape, dtype=np.int64)
        outputs = run(input_ids=input_ids, attention_mask=mask, **past)
        tokens = choose(outputs["logits"][:, -1], ids, active.tolist())
        for index, token in zip(active, tokens, strict=True):
            continuations[index].append(int(token))
        unfinished = ~np.isin(tokens, stop_tokens)
        if not unfinished.any():
            break
        ids = np.concatenate([ids, tokens[:, None]], axis=1)
        past = {
            name.replace(PRESENT, PAST, 1): value
            for name, value in outputs.items()
            if name.startswith(f"{PRESENT}.")
        }
        if not unfinished.all():
            active, ids = active[unfinished], ids[unfinished]
            past = {name: value[unfinished] for name, value in past.items()}
        if uncounted_token is not None and (ids == uncounted_token).any():
            past = {}
        input_ids = ids[:, -1:] if past else ids
    return continuations
