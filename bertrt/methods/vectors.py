"""The methods of a runtime that give vectors, and compare them."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bertrt.artifact.directory import Artifact
from bertrt.artifact.manifest import EncoderFacts
from bertrt.errors import InputError
from bertrt.heads.multi_vector_embedding import MultiVectorEmbedding
from bertrt.heads.similarity import similarity
from bertrt.heads.sparse_vectors import SparseVector, is_sparse, sparse_similarity
from bertrt.methods.answering import Answering
from bertrt.progress import ProgressCallback, check_progress
from bertrt.tokenizer import Tokenizer

__all__ = ["VectorMethods"]


class VectorMethods(Answering):
    """Vectors of texts: one a text, a sparse one a text, or one a token."""

    _artifact: Artifact
    _tokenizer: Tokenizer

    def embed(
        self,
        texts: Any,
        *,
        pooling: str | Sequence[str] | None = None,
        normalize: bool | None = None,
        dimensions: int | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        truncation_side: str | None = None,
        precision: str = "float32",
        ranges: Any = None,
        progress: bool | ProgressCallback = False,
    ) -> Any:
        """Return one vector a text, from a feature-extraction artifact.

        The vector is the model's own, by the files that sentence-transformers saved beside it: its
        pooling, scaling, prompts and length limit. Without such files it is the mean over the
        text's tokens, scaled to a Euclidean length of 1. Arguments override the files.

        Args:
            texts: a text, a list of texts, or an iterator of them; a pair as in every call. A text
                that is encoded already is a `TokenIds`, to which nothing is added, also no prompt.
            pooling: "mean", "max", "mean_sqrt_len_tokens" or "weightedmean" over the text's tokens,
                including [CLS] and [SEP]; "cls" and "lasttoken" for the first and the last token's
                vector; "pooler" for the checkpoint's own pooler, if it has one. Of several the
                vectors are concatenated.
            normalize: scale each vector to a Euclidean length of 1.
            dimensions: keep so many leading dimensions, before scaling (for models trained for
                it, Matryoshka); None keeps all, or as many as the model's files say.
            prompt: what to put before each text.
            prompt_name: which of the model's prompts to put there, if `prompt` is None; None for
                its default one, if it has one.
            truncation: as in every call. None cuts a text that is too long if the model has files
                of sentence-transformers, as its users expect (`info["truncated"]` counts these
                texts), and makes it an InputError otherwise.
            max_length: the limit in tokens; None for the model's own.
            truncation_side: as in every call.
            precision: "float32"; "int8", "uint8", "binary" or "ubinary" for vectors that take a
                byte or a bit a number: see `bertrt.quantize_embeddings`.
            ranges: for int8 and uint8, the minimum and the maximum of each dimension, float
                [2, H]. None takes those of the list's own vectors; a single text and an iterator
                have none, and need this.
            progress: as in every call.

        Returns float32 [H] for a text, [n, H] for a list, and an iterator of [H] for an iterator,
        where H is the hidden size for each pooling, or `dimensions`. With a `precision` they are
        int8 or uint8, and the binary ones have ceil(H / 8) bytes.

        Raises InputError for an input or option that cannot be used, and if the artifact is for
        another task.
        """
        check_progress(progress)
        call = self._calls.parse_embed(
            {
                "pooling": pooling,
                "normalize": normalize,
                "dimensions": dimensions,
                "prompt": prompt,
                "prompt_name": prompt_name,
                "truncation": truncation,
                "max_length": max_length,
                "truncation_side": truncation_side,
                "precision": precision,
                "ranges": ranges,
            },
            streamed=isinstance(texts, Iterator),
        )
        return self._answer(call, (texts,), progress)

    def embed_query(self, texts: Any, **options: Any) -> Any:
        """Return vectors of queries: `embed` with the model's prompt "query"."""
        return self.embed(texts, **self._prompted("query", options))

    def embed_document(self, texts: Any, **options: Any) -> Any:
        """Return vectors of documents: `embed` with the model's prompt "document".

        As in sentence-transformers 6, this is no prompt if the model has none of that name.
        """
        return self.embed(texts, **self._prompted("document", options))

    def _prompted(self, name: str, options: dict[str, Any]) -> dict[str, Any]:
        if options.get("prompt") is None and options.get("prompt_name") is None:
            return {**options, "prompt_name": name}
        return options

    def embed_sparse(
        self,
        texts: Any,
        *,
        kind: str | None = None,
        top_k: int | None = None,
        prompt: str | None = None,
        prompt_name: str | None = None,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        truncation_side: str | None = None,
        progress: bool | ProgressCallback = False,
    ) -> Any:
        """Return one sparse vector a text, from a sparse-embedding artifact.

        Args:
            texts: a text, a list of texts, or an iterator of them; a pair as in every call.
            kind: "query" or "document" for the prompt of that name and, where the model makes the
                vectors of queries without the graph (inference-free), for how the vector is made;
                None for the model's default.
            top_k: keep so many of the largest weights; None for as many as the model's files say.
            prompt, prompt_name, truncation, max_length: as for `embed`.
            truncation_side, progress: as in every call.

        Returns a `SparseVector` for a text, a list of them for a list, and an iterator of them for
        an iterator.

        Raises InputError for an input or option that cannot be used, and if the artifact is for
        another task.
        """
        check_progress(progress)
        options = {
            "kind": kind,
            "top_k": top_k,
            "prompt": prompt,
            "prompt_name": prompt_name,
            "truncation": truncation,
            "max_length": max_length,
            "truncation_side": truncation_side,
        }
        return self._answer(self._calls.parse_embed_sparse(options), (texts,), progress)

    def embed_tokens(
        self,
        texts: Any,
        *,
        kind: str,
        prompt: str | None = None,
        prompt_name: str | None = None,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        truncation_side: str | None = None,
        progress: bool | ProgressCallback = False,
    ) -> Any:
        """Return one vector for each token of a text, from a multi-vector-embedding artifact.

        Args:
            texts: a text, a list of texts, or an iterator of them.
            kind: "query" or "document". A query has the model's marker for queries and is filled up
                with mask tokens, if the model does that; their vectors are returned too. A document
                has the marker for documents, and no vectors for the tokens of the model's skip
                list, its punctuation.
            prompt: what to put before each text, in place of the marker.
            prompt_name: which of the model's prompts to put there, if `prompt` is None; None for
                that of its kind.
            truncation: as in every call, but a text that is too long is cut by default, as in
                MultiVectorEncoder (`info["truncated"]` counts these texts).
            max_length: the limit in tokens; None for the model's own for this kind. Of a model that
                fills queries up, queries have no other.
            truncation_side, progress: as in every call.

        Returns float32 [tokens, D] for a text, a list of such arrays for a list, and an iterator of
        them for an iterator.

        Raises InputError for an input or option that cannot be used, and if the artifact is for
        another task.
        """
        check_progress(progress)
        options = {
            "kind": kind,
            "prompt": prompt,
            "prompt_name": prompt_name,
            "truncation": truncation,
            "max_length": max_length,
            "truncation_side": truncation_side,
        }
        return self._answer(self._calls.parse_embed_tokens(options), (texts,), progress)

    def similarity(self, a: Any, b: Any) -> np.ndarray:
        """Return the similarity of vectors by the model's own function, float32 [n, m].

        Args:
            a, b: vectors [n, H] and [m, H], or single ones [H]; or `SparseVector`s, lists of them
                or single ones. Of a multi-vector model, queries and documents: lists of what
                `embed_tokens` returns for a text, or single ones.

        The function is the cosine, the dot product, or a negative Euclidean or Manhattan distance,
        as the model's files say; without any the cosine, and of sparse vectors the dot product. Of
        a multi-vector model it is MaxSim.

        Raises InputError for arrays that are no vectors of one size.
        """
        if isinstance(self._calls.head, MultiVectorEmbedding):
            return self._calls.head.similarity(a, b)
        facts = self._artifact.manifest.facts
        name = facts.similarity if isinstance(facts, EncoderFacts) else "cosine"
        return (sparse_similarity if is_sparse(a) or is_sparse(b) else similarity)(a, b, name)

    def decode_sparse(self, vector: SparseVector) -> list[tuple[str, float]]:
        """Return a sparse vector's tokens with their weights, the largest first.

        Args:
            vector: what `embed_sparse` returns for a text.

        Raises InputError for anything else.
        """
        if not isinstance(vector, SparseVector):
            raise InputError(
                f"decode_sparse was given {type(vector).__name__}: give one SparseVector, as "
                "embed_sparse returns it for a text"
            )
        tokens = map(self._tokenizer.id_to_token, vector.ids.tolist())
        return [(str(token), w) for token, w in zip(tokens, vector.weights.tolist(), strict=True)]
