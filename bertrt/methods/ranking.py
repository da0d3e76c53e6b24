"""The methods of a runtime that score texts against each other, and rank them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bertrt.heads.multi_vector_embedding import MultiVectorEmbedding
from bertrt.heads.reranking import check_ranking, rank_documents
from bertrt.methods.answering import Answering
from bertrt.progress import ProgressCallback, check_progress

__all__ = ["RankingMethods"]


class RankingMethods(Answering):
    """Scores of pairs, by a cross-encoder, and rankings, by that or by MaxSim."""

    def score(
        self,
        pairs: Any,
        *,
        activation: str | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        truncation: bool | str = True,
        max_length: int | None = None,
        truncation_side: str | None = None,
        progress: bool | ProgressCallback = False,
    ) -> Any:
        """Score pairs of texts with a cross-encoder, as CrossEncoder.predict does.

        Args:
            pairs: a pair `("query", "document")`, a list of pairs, or an iterator of them.
            activation: what turns logits into scores: "identity", "relu", "sigmoid" or "tanh"; None
                for what sentence-transformers saved with the model, and without that "sigmoid" for
                one label, "identity" for several.
            prompt: what to put before each pair's first text.
            prompt_name: which of the model's prompts to put there, if `prompt` is None; None for
                its default one, if it has one.
            truncation: as in every call, but a pair that is too long is cut by default, the longer
                text first, as in CrossEncoder; False makes it an InputError.
            max_length, truncation_side, progress: as in every call.

        Returns a float for a pair, float32 [n] for a list, and an iterator of float32 for an
        iterator. A model with several labels gives float32 [labels] for each pair.

        Raises InputError for an input or option that cannot be used, and if the artifact is not for
        text-classification.
        """
        check_progress(progress)
        options = {
            "activation": activation,
            "prompt": prompt,
            "prompt_name": prompt_name,
            "truncation": truncation,
            "max_length": max_length,
            "truncation_side": truncation_side,
        }
        return self._answer(self._calls.parse_score(options, "score"), (pairs,), progress)

    def rank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        top_k: int | None = None,
        return_documents: bool = False,
        progress: bool | ProgressCallback = False,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """Rank documents by their scores with a query, as CrossEncoder.rank does.

        A multi-vector model ranks by MaxSim, as MultiVectorEncoder compares a query and documents.

        Args:
            query: the query.
            documents: the documents; none give an empty answer.
            top_k: how many documents to return; all when None.
            return_documents: add each document as "text".
            progress: as in every call; the inputs are the documents.
            options: those of `score`. A multi-vector model has `truncation`, `max_length` for
                documents, and `truncation_side`.

        Returns `[{"corpus_id", "score"}, …]`, best first; `corpus_id` is the document's index.

        Raises InputError for an input or option that cannot be used, for a classifier with several
        labels, and if the artifact is for a task that ranks nothing.
        """
        check_progress(progress)
        check_ranking(query, documents, top_k, return_documents)
        if isinstance(self._calls.head, MultiVectorEmbedding):
            scores = self._maxsim(query, documents, progress, options)
        else:
            call = self._calls.parse_score(options, "rank")
            scores = self._answer(call, ([(query, text) for text in documents],), progress)
        return rank_documents(documents, scores, top_k=top_k, return_documents=return_documents)

    def _maxsim(
        self,
        query: str,
        documents: Sequence[str],
        progress: bool | ProgressCallback,
        options: dict[str, Any],
    ) -> np.ndarray:
        """Return the MaxSim of a query with documents, float32 [n]; options are those of both."""
        scores = self._calls.parse_maxsim({**options, "query": ()})
        of_query = {name: value for name, value in options.items() if name != "max_length"}
        call = self._calls.parse_embed_tokens({**of_query, "kind": "query"})
        if not documents:
            return np.empty(0, np.float32)
        scores = replace(scores, query=self._answer(call, (query,), False))
        result: np.ndarray = self._answer(scores, (list(documents),), progress)
        return result
