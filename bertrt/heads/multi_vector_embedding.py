"""`multi-vector-embedding` (ColBERT): one vector for each token of a text.

Queries and documents are encoded differently: each has its marker and its limit, a query is filled
up with mask tokens, which have vectors too, and a document has none for its punctuation. Follows
sentence-transformers' MultiVectorEncoder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from bertrt.artifact.graph_io import TOKEN_EMBEDDINGS
from bertrt.artifact.manifest import MultiVectorFacts, TaskFacts
from bertrt.checks import check_whole
from bertrt.errors import ArtifactError, InputError, shorten
from bertrt.heads.base import Options, Prepared, TextHead, TextPair
from bertrt.heads.maxsim import maxsim
from bertrt.heads.prompts import check_prompt, choose_prompt
from bertrt.heads.request import Answer, HeadRequest, SampleOutputs
from bertrt.heads.truncation import truncation_kwargs
from bertrt.tokenizer import Encoding
from bertrt.tokens import GivenTokens, Tokens

__all__ = ["KINDS", "DocumentOptions", "EmbedTokensOptions", "MultiVectorEmbedding"]

KINDS = ("query", "document")


@dataclass(frozen=True, kw_only=True)
class DocumentOptions(Options):
    """Options of `rank`, for queries and documents alike; None takes what the model's files say.

    Attributes:
        max_length: the limit of documents.
    """

    truncation: bool | str | None = None  # type: ignore[assignment]


@dataclass(frozen=True, kw_only=True)
class EmbedTokensOptions(DocumentOptions):
    """Options of a call and of `embed_tokens`; None takes what the model's files say.

    Attributes:
        kind: one of `KINDS`.
        prompt: what to put before each text, in place of the marker of its kind.
        prompt_name: the name of one of the model's prompts, if `prompt` is None.
    """

    kind: str = "document"
    prompt: str | None = None
    prompt_name: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InputError(f"kind is {shorten(self.kind)}: use {' or '.join(KINDS)}")
        check_prompt(self.prompt, self.prompt_name)
        if self.max_length is not None:
            check_whole("max_length", self.max_length, least=1)


class MultiVectorEmbedding(TextHead):
    """Returns one vector for each token of a text that has one.

    Input: a text.
    Answer: nested lists of floats [tokens][D]; from `embed_tokens` an array.
    """

    task = "multi-vector-embedding"
    options_class = EmbedTokensOptions
    # How the model makes its vectors.
    multi_vector: MultiVectorFacts
    # How many texts were cut.
    truncated = 0

    def take_facts(self, facts: TaskFacts | None, arrays: Mapping[str, np.ndarray]) -> None:
        """Take how the model makes its vectors; raises ArtifactError without that."""
        if not isinstance(facts, MultiVectorFacts):
            raise ArtifactError("bertrt.json has no multi_vector: export the checkpoint again")
        self.multi_vector = facts

    def read_inputs(self, *args: Any, **named: Any) -> tuple[list[TextPair], bool]:
        """Parse a text or a list of texts; raises InputError for anything else, as for a pair."""
        texts, single = super().read_inputs(*args, **named)
        if any(text.pair is not None for text in texts):
            raise InputError(f"{self.task} takes single texts, but got a pair: give each alone")
        return texts, single

    def resolve(self, options: EmbedTokensOptions) -> EmbedTokensOptions:
        """Fill in what the model's files say.

        Raises InputError for an unknown prompt, and for a limit that queries cannot have.
        """
        facts, expansion = self.multi_vector, self.multi_vector.expansion
        is_query, limit = options.kind == "query", options.max_length
        if is_query and expansion is not None and limit is not None:
            lowest = limit < expansion.length
            if lowest or (expansion.fixed and limit != expansion.length):
                raise InputError(
                    f"max_length is {limit}, and this model fills queries up to "
                    f"{expansion.length} tokens: leave it out"
                )
        own = facts.query_length if is_query else facts.max_length
        return replace(
            options,
            prompt=choose_prompt(
                options.prompt, options.prompt_name, facts.prompts, default=options.kind
            ),
            truncation=facts.truncation if options.truncation is None else options.truncation,
            max_length=own if limit is None else limit,
        )

    def build_tokens_request(self, input: TextPair, options: EmbedTokensOptions) -> HeadRequest:
        """Build the request of a text's vectors, float32 [tokens, D], with resolved options."""
        tokens = self._encode(input, options)
        has_vector = self._has_vector(tokens, options)

        def finish(samples: Sequence[SampleOutputs]) -> np.ndarray:
            # Copied: a view would keep the outputs of the whole batch alive.
            vectors: np.ndarray = samples[0][TOKEN_EMBEDDINGS][has_vector]
            return vectors

        return HeadRequest([tokens], finish, (TOKEN_EMBEDDINGS,))

    def build_score_request(
        self, input: TextPair, query: np.ndarray, options: EmbedTokensOptions
    ) -> HeadRequest:
        """Build the request of a document's score with a query's vectors, a float."""
        request = self.build_tokens_request(input, options)

        def finish(samples: Sequence[SampleOutputs]) -> float:
            return float(self.similarity(query, request.finish(samples))[0, 0])

        return replace(request, finish=finish)

    def similarity(self, queries: Any, documents: Any) -> np.ndarray:
        """Return the model's own MaxSim of each query with each document, float32 [n, m]."""
        return maxsim(queries, documents, mean=self.multi_vector.similarity == "meanmaxsim")

    def prepare(self, input: TextPair, options: EmbedTokensOptions) -> Prepared:
        """Encode a text."""
        resolved = self.resolve(options)
        # `finish` alone reads it, as the `Tokens` that it is.
        return Prepared([cast(Encoding, self._encode(input, resolved))], context=resolved)

    def finish(
        self, prepared: Prepared, samples: Sequence[SampleOutputs], options: EmbedTokensOptions
    ) -> Answer:
        """Return the vectors as lists."""
        has_vector = self._has_vector(prepared.encodings[0], prepared.context)
        return samples[0][TOKEN_EMBEDDINGS][has_vector].tolist()

    def _encode(self, input: TextPair, options: EmbedTokensOptions) -> Tokens:
        """Return a text's tokens, and behind those of a query what fills it up."""
        encoding = self.tokenizer.encode(
            f"{options.prompt}{input.text}", **truncation_kwargs(options)
        )
        self.truncated += bool(encoding.overflowing)
        expansion = self.multi_vector.expansion
        if options.kind != "query" or expansion is None or len(encoding) >= expansion.length:
            return encoding
        more = [expansion.token_id] * (expansion.length - len(encoding))
        attended = None if expansion.attend else len(encoding)
        return GivenTokens([*encoding.ids, *more], encoding.overflowing, attended)

    def _has_vector(self, tokens: Tokens, options: EmbedTokensOptions) -> np.ndarray:
        """Return which tokens of a text have a vector, bool [S]."""
        skipped = self.multi_vector.skipped_ids.get(options.kind, ())
        return ~np.isin(tokens.ids, skipped)
