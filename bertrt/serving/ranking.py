"""Rank texts by a query, as the routes of each family of clients do."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from bertrt.serving.context import Answering, Context
from bertrt.serving.message import Request
from bertrt.serving.models import Model

__all__ = ["rank"]


async def rank(
    context: Context,
    request: Request,
    answering: Answering,
    model: Model,
    query: str,
    texts: Sequence[str],
    *,
    raw_scores: bool,
    truncation: bool,
    truncation_side: str | None = None,
) -> list[tuple[int, float]]:
    """Return each text's index and score, best first; texts with equal scores in their order.

    Scores are between 0 and 1 unless they are raw, whatever the model's own activation is; those of
    a multi-vector model are its MaxSim.
    """
    if model.task == "multi-vector-embedding":
        options: dict[str, Any] = {"truncation": truncation, "truncation_side": truncation_side}
        [vectors] = await context.answer(
            request, answering, model, "embed_tokens", [query], kind="query", **options
        )
        scores = await context.answer(
            request, answering, model, "maxsim", texts, query=vectors, **options
        )
        return _best_first(scores)
    scores = await context.answer(
        request,
        answering,
        model,
        "score",
        [(query, text) for text in texts],
        activation="identity" if raw_scores else "sigmoid",
        truncation=truncation,
        truncation_side=truncation_side,
    )
    return _best_first(scores)


def _best_first(scores: np.ndarray) -> list[tuple[int, float]]:
    """Return each text's index and score, best first."""
    order = np.argsort(-scores, kind="stable")
    return [(int(index), float(scores[index])) for index in order]
