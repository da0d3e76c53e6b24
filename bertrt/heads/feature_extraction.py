"""`feature-extraction` (BertModel): every token's hidden state, or one vector for each text.

Calls follow transformers' FeatureExtractionPipeline. `embed` gives the vectors that
sentence-transformers gives for the same checkpoint: by the files that it saved, or by the mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bertrt.artifact.graph_io import SENTENCE_EMBEDDING
from bertrt.artifact.manifest import EmbeddingFacts, TaskFacts
from bertrt.checks import check_flag, check_whole
from bertrt.errors import ArtifactError, InputError
from bertrt.heads.base import (
    Options,
    Prepared,
    TextHead,
    TextPair,
    TokenIds,
    parse_text_pair,
)
from bertrt.heads.pooling import POOLINGS, finish_vector, pool
from bertrt.heads.prompts import check_prompt, choose_prompt
from bertrt.heads.quantize_embeddings import check_precision
from bertrt.heads.request import Answer, GraphRunner, HeadRequest, SampleOutputs
from bertrt.heads.truncation import check_tokenizer_kwargs, truncation_kwargs
from bertrt.tokens import Tokens

__all__ = ["EmbedOptions", "FeatureExtraction", "FeatureExtractionOptions"]


@dataclass(frozen=True, kw_only=True)
class FeatureExtractionOptions(Options):
    """Options of a call.

    Attributes:
        tokenize_kwargs: `truncation` and `max_length` in a dict, as transformers takes them.
    """

    tokenize_kwargs: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_tokenizer_kwargs("tokenize_kwargs", self.tokenize_kwargs)


@dataclass(frozen=True, kw_only=True)
class EmbedOptions(FeatureExtractionOptions):
    """Options of `embed`; None takes what the model's files say.

    Attributes:
        pooling: one of `bertrt.heads.pooling.POOLINGS`, or several that are concatenated.
        normalize, dimensions: see `bertrt.heads.pooling.finish_vector`.
        prompt: what to put before each text.
        prompt_name: the name of one of the model's prompts, if `prompt` is None.
        precision, ranges: see `bertrt.heads.quantize_embeddings`.
    """

    truncation: bool | str | None = None  # type: ignore[assignment]
    pooling: str | Sequence[str] | None = None
    normalize: bool | None = None
    dimensions: int | None = None
    prompt: str | None = None
    prompt_name: str | None = None
    precision: str = "float32"
    ranges: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_precision(self.precision, self.ranges)
        names = [self.pooling] if isinstance(self.pooling, str) else self.pooling
        if not isinstance(names, (list, tuple, type(None))):
            raise InputError(f"pooling is {names!r}: use one of {', '.join(POOLINGS)}, or a list")
        for name in names or ():
            if name not in POOLINGS:
                raise InputError(f"pooling is {name!r}: use one of {', '.join(POOLINGS)}")
        if self.normalize is not None:
            check_flag("normalize", self.normalize)
        if self.dimensions is not None:
            check_whole("dimensions", self.dimensions, least=1)
        check_prompt(self.prompt, self.prompt_name)


class FeatureExtraction(TextHead):
    """Returns the last hidden state of each token, or with `embed` one vector for each text.

    Input: a text or a pair of texts.
    Answer: nested lists of floats [1][S][H], special tokens included; from `embed` an array.
    """

    task = "feature-extraction"
    options_class = FeatureExtractionOptions
    # How the model makes a vector of a text.
    embedding: EmbeddingFacts
    # How many texts `embed` has cut.
    truncated = 0

    def take_facts(self, facts: TaskFacts | None, arrays: Mapping[str, np.ndarray]) -> None:
        """Take how the model makes its vectors; raises ArtifactError without that."""
        if not isinstance(facts, EmbeddingFacts):
            raise ArtifactError("bertrt.json has no embedding: export the checkpoint again")
        self.embedding = facts

    def prepare(self, input: TextPair, options: FeatureExtractionOptions) -> Prepared:
        """Encode a text or a pair."""
        truncation = truncation_kwargs(options, options.tokenize_kwargs)
        return Prepared([self.tokenizer.encode(input.text, input.pair, **truncation)])

    def finish(
        self,
        prepared: Prepared,
        samples: Sequence[SampleOutputs],
        options: FeatureExtractionOptions,
    ) -> Answer:
        """Return the hidden states as lists; as in transformers, in a batch of one."""
        return [samples[0]["last_hidden_state"].tolist()]

    def resolve_embed_options(self, options: EmbedOptions, outputs: Sequence[str]) -> EmbedOptions:
        """Fill in what the model's files say, for a graph with these outputs.

        Raises InputError for options that this model cannot have.
        """
        facts = self.embedding
        pooling = facts.pooling if options.pooling is None else options.pooling
        pooling = (pooling,) if isinstance(pooling, str) else tuple(pooling)
        if not pooling:
            raise InputError(f"pooling is empty: use one of {', '.join(POOLINGS)}")
        if "pooler" in pooling and "pooler_output" not in outputs:
            raise InputError(
                "pooling is 'pooler', but this checkpoint has no pooler: use mean, cls or max"
            )
        normalize = facts.normalize if options.normalize is None else options.normalize
        resolved = replace(
            options,
            pooling=pooling,
            normalize=normalize,
            prompt=choose_prompt(
                options.prompt, options.prompt_name, facts.prompts, facts.default_prompt_name
            ),
            truncation=facts.truncation if options.truncation is None else options.truncation,
            max_length=facts.max_length if options.max_length is None else options.max_length,
        )
        if not facts.only_pools and not self._is_own(resolved):
            name, value = "normalize", "False"
            if pooling != facts.pooling:
                name, value = "pooling", repr(", ".join(pooling))
            raise InputError(
                f"{name} is {value}, but this model's graph makes its vectors of "
                f"{' and '.join(facts.pooling)} by {', '.join(facts.modules)}: leave {name} out"
            )
        size = self._size(resolved)
        if options.dimensions is not None and options.dimensions > size:
            raise InputError(
                f"dimensions is {options.dimensions}, but this model has {size}: lower it"
            )
        return resolved

    def _is_own(self, options: EmbedOptions) -> bool:
        """Whether the vector, or one that it is a part or a multiple of, is the model's own."""
        facts = self.embedding
        return options.pooling == facts.pooling and (bool(options.normalize) or not facts.normalize)

    def _size(self, options: EmbedOptions) -> int:
        """Return the number of entries of a vector before it is shortened."""
        pooling = options.pooling or ()
        if pooling == self.embedding.pooling:
            return self.embedding.size
        return self.config.hidden_size * len(pooling)

    def vector_size(self, options: EmbedOptions) -> int:
        """Return how many numbers a vector has, with options that are resolved."""
        size = self._size(options)
        return options.dimensions or min(size, self.embedding.dimensions or size)

    def read_embed_inputs(self, *args: Any) -> tuple[list[TextPair | TokenIds], bool]:
        """Parse the argument of `embed`: as `read_inputs`, where `TokenIds` may stand for a text.

        Raises InputError for anything else.
        """
        given = args[0] if args else None
        if isinstance(given, TokenIds):
            return [given], True
        if isinstance(given, list) and any(isinstance(item, TokenIds) for item in given):
            return [
                item if isinstance(item, TokenIds) else parse_text_pair(item) for item in given
            ], False
        pairs, single = self.read_inputs(*args)
        return [*pairs], single

    def _encode_for_vector(
        self, input: TextPair | TokenIds, options: EmbedOptions
    ) -> tuple[Tokens, int]:
        """Return an input's tokens, and how many of the first are a prompt's and not pooled."""
        if isinstance(input, TokenIds):
            kwargs = truncation_kwargs(options, options.tokenize_kwargs)
            return self.tokenizer.take_ids(input.ids, self.config.vocab_size, **kwargs), 0
        prompt = options.prompt or ""
        if prompt:
            input = replace(input, text=f"{prompt}{input.text}")
        # An empty second text makes a pair too, as in the lists of sentence-transformers.
        kwargs = truncation_kwargs(options, options.tokenize_kwargs)
        encoding = self.tokenizer.encode(input.text, input.pair, empty_pair=True, **kwargs)
        return encoding, self._prompt_tokens(prompt, len(encoding)) if prompt else 0

    def build_vector_request(
        self, input: TextPair | TokenIds, options: EmbedOptions
    ) -> HeadRequest:
        """Build the request of one input's vector, float32 [size].

        The graph gives the model's own vectors; others are pooled here.

        Args:
            input: the text or pair, or its token ids.
            options: what `resolve_embed_options` returned.
        """
        pooling, facts = tuple(options.pooling or ()), self.embedding
        encoding, skip = self._encode_for_vector(input, options)
        self.truncated += bool(encoding.overflowing)
        tokens = "first" if not skip and set(pooling) <= {"cls", "pooler"} else "all"
        is_own = not skip and self._is_own(options)
        sources = {"pooler_output" if name == "pooler" else "last_hidden_state" for name in pooling}
        if is_own:
            sources = {SENTENCE_EMBEDDING}
        # A unit vector that is not shortened has its length already.
        is_finished = is_own and facts.normalize and options.dimensions is None

        def finish(samples: Sequence[SampleOutputs]) -> np.ndarray:
            if is_own:
                vector = samples[0][SENTENCE_EMBEDDING]
            else:
                vector = np.concatenate([pool(samples[0], name, skip) for name in pooling])
            if not is_finished:
                normalize, dimensions = bool(options.normalize), options.dimensions
                vector = finish_vector(vector, normalize=normalize, dimensions=dimensions)
            # Copied: a view would keep the outputs of the whole batch alive.
            kept = facts.dimensions if options.dimensions is None else None
            return np.array(vector[:kept])

        return HeadRequest([encoding], finish, tuple(sorted(sources)), tokens)

    def _prompt_tokens(self, prompt: str, length: int) -> int:
        """Return how many leading tokens are a prompt's, with the first, and are not pooled."""
        if self.embedding.include_prompt:
            return 0
        # Without the separator after it; a text that is cut within its prompt keeps one token.
        return min(len(self.tokenizer.encode(prompt, truncation=True)) - 1, length - 1)

    def embed(
        self,
        inputs: Sequence[TextPair | TokenIds],
        runner: GraphRunner,
        options: EmbedOptions,
    ) -> np.ndarray:
        """Return one vector for each input, float32 [n, size]."""
        requests = [self.build_vector_request(input, options) for input in inputs]
        encodings = [request.encodings[0] for request in requests]
        vectors = np.empty((len(encodings), self.vector_size(options)), dtype=np.float32)
        # With a prompt that is not pooled, texts differ in which tokens and outputs they need.
        tokens = "first" if all(r.tokens == "first" for r in requests) else "all"
        outputs = sorted({name for request in requests for name in request.outputs or ()})
        for index, sample in runner.run_encodings(encodings, outputs=outputs, tokens=tokens):
            vectors[index] = requests[index].finish([sample])
        return vectors
