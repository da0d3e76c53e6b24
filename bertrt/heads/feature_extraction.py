"""`feature-extraction` (BertModel): every token's hidden state, or one vector for each text.

Calls follow transformers' FeatureExtractionPipeline. `embed` gives the vectors that
sentence-transformers gives for the same checkpoint: by the files that it saved, or by the mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bertrt.artifact.graph_io import embedding_output
from bertrt.artifact.manifest import EmbeddingFacts
from bertrt.checks import check_flag, check_whole
from bertrt.errors import InputError, shorten
from bertrt.heads.base import Options, Prepared, TextHead, TextPair
from bertrt.heads.pooling import POOLINGS, finish_vector, pool
from bertrt.heads.request import Answer, GraphRunner, HeadRequest, SampleOutputs
from bertrt.heads.truncation import check_tokenizer_kwargs, truncation_kwargs

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
    """

    truncation: bool | str | None = None  # type: ignore[assignment]
    pooling: str | Sequence[str] | None = None
    normalize: bool | None = None
    dimensions: int | None = None
    prompt: str | None = None
    prompt_name: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
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
        for name in ("prompt", "prompt_name"):
            value = getattr(self, name)
            if not isinstance(value, (str, type(None))):
                raise InputError(f"{name} is {shorten(value)}: give a string")


class FeatureExtraction(TextHead):
    """Returns the last hidden state of each token, or with `embed` one vector for each text.

    Input: a text or a pair of texts.
    Answer: nested lists of floats [1][S][H], special tokens included; from `embed` an array.
    """

    task = "feature-extraction"
    options_class = FeatureExtractionOptions
    # What sentence-transformers saved beside the model; None without its files.
    embedding: EmbeddingFacts | None = None
    # How many texts `embed` has cut.
    truncated = 0

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
        facts = self.embedding_facts
        pooling = facts.pooling if options.pooling is None else options.pooling
        pooling = (pooling,) if isinstance(pooling, str) else tuple(pooling)
        if not pooling:
            raise InputError(f"pooling is empty: use one of {', '.join(POOLINGS)}")
        if "pooler" in pooling and "pooler_output" not in outputs:
            raise InputError(
                "pooling is 'pooler', but this checkpoint has no pooler: use mean, cls or max"
            )
        size = self.config.hidden_size * len(pooling)
        if options.dimensions is not None and options.dimensions > size:
            raise InputError(
                f"dimensions is {options.dimensions}, but this model has {size}: lower it"
            )
        truncation, max_length = options.truncation, options.max_length
        return replace(
            options,
            pooling=pooling,
            normalize=facts.normalize if options.normalize is None else options.normalize,
            prompt=self._prompt(options),
            truncation=self.embedding is not None if truncation is None else truncation,
            max_length=facts.max_length if max_length is None else max_length,
        )

    @property
    def embedding_facts(self) -> EmbeddingFacts:
        """How the model makes its vectors; without files of sentence-transformers, by the mean."""
        return self.embedding or EmbeddingFacts(
            pooling=("mean",),
            include_prompt=True,
            normalize=True,
            dimensions=None,
            max_length=self.tokenizer.max_length,
            prompts={"query": "", "document": ""},
            default_prompt_name=None,
            similarity="cosine",
        )

    def _prompt(self, options: EmbedOptions) -> str:
        """Return what is put before each text."""
        if options.prompt is not None:
            return options.prompt
        facts = self.embedding_facts
        name = options.prompt_name or facts.default_prompt_name
        if name is None:
            return ""
        if name not in facts.prompts:
            raise InputError(
                f"prompt_name is {name!r}, and this model's prompts are "
                f"{', '.join(facts.prompts)}: use one of them, or give prompt"
            )
        return facts.prompts[name]

    def build_vector_request(
        self, input: TextPair, options: EmbedOptions, outputs: Sequence[str]
    ) -> HeadRequest:
        """Build the request of one input's vector, float32 [size].

        If the graph has an output with such vectors, they are read from there.

        Args:
            input: the text or pair.
            options: what `resolve_embed_options` returned.
            outputs: the names of the graph's outputs.
        """
        prompt, pooling = options.prompt or "", tuple(options.pooling or ())
        if prompt:
            input = replace(input, text=f"{prompt}{input.text}")
        encodings = self.prepare(input, options).encodings
        self.truncated += bool(encodings[0].overflowing)
        skip = self._prompt_tokens(prompt, len(encodings[0])) if prompt else 0
        tokens = "first" if not skip and set(pooling) <= {"cls", "pooler"} else "all"
        kept = None if options.dimensions is not None else self.embedding_facts.dimensions
        embedding = embedding_output(pooling[0])
        is_output = len(pooling) == 1 and embedding in outputs
        if is_output and options.normalize and options.dimensions is None and not skip:
            # Copied: a view would keep the outputs of the whole batch alive.
            return HeadRequest(
                encodings, lambda samples: samples[0][embedding][:kept].copy(), (embedding,), tokens
            )

        def finish(samples: Sequence[SampleOutputs]) -> np.ndarray:
            vectors = [pool(samples[0], name, skip) for name in pooling]
            return finish_vector(
                np.concatenate(vectors),
                normalize=bool(options.normalize),
                dimensions=options.dimensions,
            )[:kept].copy()

        sources = {"pooler_output" if name == "pooler" else "last_hidden_state" for name in pooling}
        return HeadRequest(encodings, finish, tuple(sorted(sources)), tokens)

    def _prompt_tokens(self, prompt: str, length: int) -> int:
        """Return how many leading tokens are a prompt's, with [CLS], and are not pooled."""
        if self.embedding_facts.include_prompt:
            return 0
        # Without the [SEP] after it; a text that is cut within its prompt keeps one token.
        return min(len(self.tokenizer.encode(prompt, truncation=True)) - 1, length - 1)

    def embed(
        self,
        inputs: Sequence[TextPair],
        runner: GraphRunner,
        options: EmbedOptions,
        outputs: Sequence[str],
    ) -> np.ndarray:
        """Return one vector for each input, float32 [n, size]."""
        requests = [self.build_vector_request(input, options, outputs) for input in inputs]
        encodings = [request.encodings[0] for request in requests]
        size = self.config.hidden_size * len(options.pooling or ())
        size = options.dimensions or min(size, self.embedding_facts.dimensions or size)
        vectors = np.empty((len(encodings), size), dtype=np.float32)
        # With a prompt that is not pooled, texts differ in which tokens they need.
        tokens = "first" if all(r.tokens == "first" for r in requests) else "all"
        samples = runner.run_encodings(encodings, outputs=requests[0].outputs, tokens=tokens)
        for index, sample in samples:
            vectors[index] = requests[index].finish([sample])
        return vectors
