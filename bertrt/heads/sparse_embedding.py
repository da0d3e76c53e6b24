"""`sparse-embedding` (BertForMaskedLM with SPLADE's pooling): a weight for each token of a text.

The tokens are those of the whole vocabulary, so that a text also has tokens that it does not
contain. Follows sentence-transformers' SparseEncoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bertrt.artifact.graph_io import SPARSE_EMBEDDING
from bertrt.artifact.manifest import SparseFacts, TaskFacts
from bertrt.checks import check_top_k
from bertrt.errors import ArtifactError
from bertrt.heads.base import Options, Prepared, TextHead, TextPair
from bertrt.heads.prompts import check_prompt, choose_prompt
from bertrt.heads.request import Answer, GraphRunner, HeadRequest, SampleOutputs
from bertrt.heads.sparse_vectors import SparseVector, to_sparse
from bertrt.heads.truncation import truncation_kwargs

__all__ = ["SparseEmbedding", "SparseOptions"]


@dataclass(frozen=True, kw_only=True)
class SparseOptions(Options):
    """Options of a call and of `embed_sparse`; None takes what the model's files say.

    Attributes:
        top_k: how many of the largest weights to keep.
        prompt: what to put before each text.
        prompt_name: the name of one of the model's prompts, if `prompt` is None.
    """

    truncation: bool | str | None = None  # type: ignore[assignment]
    top_k: int | None = None
    prompt: str | None = None
    prompt_name: str | None = None

    def __post_init__(self) -> None:
        if self.top_k is not None:
            check_top_k(self.top_k)
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
    # How many texts were cut.
    truncated = 0

    def take_facts(self, facts: TaskFacts | None) -> None:
        """Take how the model makes its vectors; raises ArtifactError without that."""
        if not isinstance(facts, SparseFacts):
            raise ArtifactError("bertrt.json has no sparse: export the checkpoint again")
        self.sparse = facts

    def resolve(self, options: SparseOptions) -> SparseOptions:
        """Fill in what the model's files say; raises InputError for an unknown prompt."""
        facts = self.sparse
        return replace(
            options,
            prompt=choose_prompt(
                options.prompt, options.prompt_name, facts.prompts, facts.default_prompt_name
            ),
            top_k=facts.top_k if options.top_k is None else options.top_k,
            truncation=facts.truncation if options.truncation is None else options.truncation,
            max_length=facts.max_length if options.max_length is None else options.max_length,
        )

    def build_sparse_request(self, input: TextPair, options: SparseOptions) -> HeadRequest:
        """Build the request of one input's `SparseVector`, with options that are resolved."""
        prepared = self._encode(input, options)

        def finish(samples: Sequence[SampleOutputs]) -> SparseVector:
            return to_sparse(samples[0][SPARSE_EMBEDDING], options.top_k)

        return HeadRequest(prepared.encodings, finish, (SPARSE_EMBEDDING,))

    def embed(
        self, inputs: Sequence[TextPair], runner: GraphRunner, options: SparseOptions
    ) -> list[SparseVector]:
        """Return one vector for each input, with options that are resolved."""
        requests = [self.build_sparse_request(input, options) for input in inputs]
        return self.run_requests(requests, runner)

    def prepare(self, input: TextPair, options: SparseOptions) -> Prepared:
        """Encode a text or a pair."""
        return self._encode(input, self.resolve(options))

    def finish(
        self, prepared: Prepared, samples: Sequence[SampleOutputs], options: SparseOptions
    ) -> Answer:
        """Return the tokens with their weights, best first."""
        vector = to_sparse(samples[0][SPARSE_EMBEDDING], self.resolve(options).top_k)
        return [
            {"token": id, "token_str": self.tokenizer.id_to_token(id), "weight": weight}
            for id, weight in zip(vector.ids.tolist(), vector.weights.tolist(), strict=True)
        ]

    def _encode(self, input: TextPair, options: SparseOptions) -> Prepared:
        text = f"{options.prompt}{input.text}" if options.prompt else input.text
        # An empty second text makes a pair too, as in sentence-transformers.
        encoding = self.tokenizer.encode(
            text, input.pair, empty_pair=True, **truncation_kwargs(options)
        )
        self.truncated += bool(encoding.overflowing)
        return Prepared([encoding])
