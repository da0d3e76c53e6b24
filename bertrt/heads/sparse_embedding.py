"""`sparse-embedding` (BertForMaskedLM with SPLADE's pooling): a weight for each token of a text.

The tokens are those of the whole vocabulary, so that a text also has tokens that it does not
contain. Follows sentence-transformers' SparseEncoder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bertrt.artifact.graph_io import SPARSE_EMBEDDING
from bertrt.artifact.manifest import SparseFacts, TaskFacts
from bertrt.checks import check_top_k, check_truncation, check_whole
from bertrt.errors import ArtifactError, InputError, TooLongError, shorten
from bertrt.heads.base import Options, Prepared, TextHead, TextPair
from bertrt.heads.prompts import check_prompt, choose_prompt
from bertrt.heads.request import Answer, GraphRunner, HeadRequest, SampleOutputs
from bertrt.heads.run_requests import run_requests
from bertrt.heads.sparse_vectors import SparseVector, to_sparse
from bertrt.heads.truncation import truncation_kwargs
from bertrt.tokenizer import Encoding

__all__ = ["SparseEmbedding", "SparseOptions"]

_KINDS = ("query", "document")


@dataclass(frozen=True, kw_only=True)
class SparseOptions(Options):
    """Options of a call and of `embed_sparse`; None takes what the model's files say.

    Attributes:
        kind: "query" or "document": chooses the prompt, and how the model makes the vector.
        top_k: how many of the largest weights to keep.
        prompt: what to put before each text.
        prompt_name: the name of one of the model's prompts, if `prompt` is None.
    """

    truncation: bool | str | None = None  # type: ignore[assignment]
    kind: str | None = None
    top_k: int | None = None
    prompt: str | None = None
    prompt_name: str | None = None

    def __post_init__(self) -> None:
        if self.kind is not None and self.kind not in _KINDS:
            raise InputError(f"kind is {shorten(self.kind)}: use {' or '.join(_KINDS)}")
        if self.top_k is not None:
            check_top_k(self.top_k)
        # No tokenizer sees these of a query without the graph.
        if self.max_length is not None:
            check_whole("max_length", self.max_length, least=1)
        truncation = False if self.truncation is None else self.truncation
        check_truncation(truncation, self.truncation_side)
        check_prompt(self.prompt, self.prompt_name)


class SparseEmbedding(TextHead):
    """Weighs the tokens of the vocabulary for a text.

    Input: a text or a pair of texts.
    Answer: `[{"token", "token_str", "weight"}, …]`, best first; from `embed_sparse` a
    `SparseVector`.
    """

    task = "sparse-embedding"
    options_class = SparseOptions
    # How the model makes a vector of a text.
    sparse: SparseFacts
    # The weight of each token of a query, float32 [V]; None if the graph makes the vectors of
    # queries too.
    query_weights: np.ndarray | None = None
    # How many texts were cut.
    truncated = 0

    def take_facts(self, facts: TaskFacts | None, arrays: Mapping[str, np.ndarray]) -> None:
        """Take how the model makes its vectors; raises ArtifactError without that."""
        if not isinstance(facts, SparseFacts):
            raise ArtifactError("bertrt.json has no sparse: export the checkpoint again")
        self.sparse = facts
        if facts.query_weights is not None:
            weights = arrays.get(facts.query_weights)
            if weights is None or weights.shape != (facts.size,):
                raise ArtifactError(
                    f"{facts.query_weights} is missing or damaged: export the checkpoint again"
                )
            self.query_weights = weights

    def resolve(self, options: SparseOptions) -> SparseOptions:
        """Fill in what the model's files say.

        Raises InputError for an unknown prompt, and for no kind where the model needs one.
        """
        facts = self.sparse
        name = options.kind if options.prompt_name is None else options.prompt_name
        kind = facts.default_kind if options.kind is None else options.kind
        if kind is None:
            raise InputError(
                f"this model makes the vectors of queries and documents in different ways: give "
                f"kind, {' or '.join(_KINDS)}"
            )
        limit = facts.query_max_length if self._is_static(kind) else facts.max_length
        return replace(
            options,
            kind=kind,
            prompt=choose_prompt(options.prompt, name, facts.prompts, facts.default_prompt_name),
            top_k=facts.top_k if options.top_k is None else options.top_k,
            truncation=facts.truncation if options.truncation is None else options.truncation,
            max_length=limit if options.max_length is None else options.max_length,
        )

    def build_sparse_request(self, input: TextPair, options: SparseOptions) -> HeadRequest:
        """Build the request of one input's `SparseVector`, with options that are resolved."""
        if self._is_static(options.kind):
            vector = self._static_vector(input, options)
            return HeadRequest((), lambda samples: vector)
        encoding = self._encode(input, options)

        def finish(samples: Sequence[SampleOutputs]) -> SparseVector:
            return to_sparse(samples[0][SPARSE_EMBEDDING], options.top_k)

        return HeadRequest([encoding], finish, (SPARSE_EMBEDDING,))

    def embed(
        self, inputs: Sequence[TextPair], runner: GraphRunner, options: SparseOptions
    ) -> list[SparseVector]:
        """Return one vector for each input, with options that are resolved."""
        requests = [self.build_sparse_request(input, options) for input in inputs]
        return run_requests(requests, runner)

    def prepare(self, input: TextPair, options: SparseOptions) -> Prepared:
        """Encode a text or a pair, or make its vector where no graph runs."""
        options = self.resolve(options)
        if self._is_static(options.kind):
            return Prepared((), self._static_vector(input, options))
        return Prepared([self._encode(input, options)])

    def finish(
        self, prepared: Prepared, samples: Sequence[SampleOutputs], options: SparseOptions
    ) -> Answer:
        """Return the tokens with their weights, best first."""
        vector = prepared.context
        if vector is None:
            vector = to_sparse(samples[0][SPARSE_EMBEDDING], self.resolve(options).top_k)
        return [
            {"token": id, "token_str": self.tokenizer.id_to_token(id), "weight": weight}
            for id, weight in zip(vector.ids.tolist(), vector.weights.tolist(), strict=True)
        ]

    def _is_static(self, kind: str | None) -> bool:
        """Whether the vectors of this kind are weights, which no graph computes."""
        return kind == "query" and self.query_weights is not None

    def _encode(self, input: TextPair, options: SparseOptions) -> Encoding:
        # An empty second text makes a pair too, as in sentence-transformers.
        encoding = self.tokenizer.encode(
            f"{options.prompt}{input.text}",
            input.pair,
            empty_pair=True,
            **truncation_kwargs(options),
        )
        self.truncated += bool(encoding.overflowing)
        return encoding

    def _static_vector(self, input: TextPair, options: SparseOptions) -> SparseVector:
        """Return the weights of a query's tokens; special tokens are not added."""
        assert self.query_weights is not None
        if input.pair is not None:
            raise InputError(
                "a query of this model is one text, and this is a pair: join its parts"
            )
        text = f"{options.prompt}{input.text}"
        ids = self.tokenizer.encode_whole(text, special_tokens=False).ids
        limit, side = options.max_length, options.truncation_side
        if limit is not None and len(ids) > limit:
            if options.truncation is False:
                raise TooLongError(
                    f"the query {shorten(text)} has {len(ids)} tokens and the limit is {limit}: "
                    "shorten it, or pass",
                    tokens=len(ids),
                    limit=limit,
                    truncation=True,
                )
            self.truncated += 1
            from_left = (side or self.tokenizer.facts.truncation_side) == "left"
            ids = ids[-limit:] if from_left else ids[:limit]
        row = np.zeros_like(self.query_weights)
        row[ids] = self.query_weights[ids]
        return to_sparse(row, options.top_k)
