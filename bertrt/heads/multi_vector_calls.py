"""Calls of a multi-vector model: of `embed_tokens`, and of documents' scores with a query."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertrt.heads.multi_vector_embedding import EmbedTokensOptions, MultiVectorEmbedding
from bertrt.heads.request import Answer, GraphRunner, HeadRequest
from bertrt.heads.run_requests import run_requests

__all__ = ["EmbedTokensCall", "MaxSimCall"]


@dataclass(frozen=True)
class EmbedTokensCall:
    """A call of `embed_tokens`: an answer is float32 [tokens, D]."""

    head: MultiVectorEmbedding
    options: EmbedTokensOptions

    def read(self, *inputs: Any) -> tuple[list[Any], bool]:
        return self.head.read_inputs(*inputs)

    def answer(self, inputs: Sequence[Any], runner: GraphRunner) -> list[np.ndarray]:
        return run_requests([self.request(input, runner) for input in inputs], runner)

    def request(self, input: Any, runner: GraphRunner) -> HeadRequest:
        return self.head.build_tokens_request(input, self.options)

    def join(self, answers: Sequence[Answer]) -> list[np.ndarray]:
        return list(answers)

    def unwrap(self, answer: Answer, input: Any) -> Answer:
        return answer


@dataclass(frozen=True)
class MaxSimCall:
    """A call that scores documents with a query's vectors: an answer is a float.

    Each document's vectors are freed as soon as it has its score.
    """

    head: MultiVectorEmbedding
    options: EmbedTokensOptions
    query: np.ndarray

    def read(self, *inputs: Any) -> tuple[list[Any], bool]:
        return self.head.read_inputs(*inputs)

    def answer(self, inputs: Sequence[Any], runner: GraphRunner) -> np.ndarray:
        requests = [self.request(input, runner) for input in inputs]
        return self.join(run_requests(requests, runner))

    def request(self, input: Any, runner: GraphRunner) -> HeadRequest:
        return self.head.build_score_request(input, self.query, self.options)

    def join(self, answers: Sequence[Answer]) -> np.ndarray:
        return np.array(answers, dtype=np.float32)

    def unwrap(self, answer: Answer, input: Any) -> Answer:
        return float(answer)
