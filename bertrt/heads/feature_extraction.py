"""`feature-extraction` (BertModel): every token's hidden state, or one vector for each text.

Calls follow transformers' FeatureExtractionPipeline. `embed` gives the vectors that
sentence-transformers gives for the same checkpoint.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertrt.artifact.graph_io import embedding_output
from bertrt.checks import check_flag, check_whole
from bertrt.errors import InputError
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
    """Options of `embed`.

    Attributes:
        pooling, normalize, dimensions: how hidden states become one vector; see
            `bertrt.heads.pooling`.
    """

    pooling: str = "mean"
    normalize: bool = True
    dimensions: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pooling not in POOLINGS:
            raise InputError(f"pooling is {self.pooling!r}: use one of {', '.join(POOLINGS)}")
        check_flag("normalize", self.normalize)
        if self.dimensions is not None:
            check_whole("dimensions", self.dimensions, least=1)


class FeatureExtraction(TextHead):
    """Returns the last hidden state of each token, or with `embed` one vector for each text.

    Input: a text or a pair of texts.
    Answer: nested lists of floats [1][S][H], special tokens included; from `embed` an array.
    """

    task = "feature-extraction"
    options_class = FeatureExtractionOptions

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

    def check_embed_options(self, options: EmbedOptions, outputs: Sequence[str]) -> None:
        """Raise InputError unless a graph with these outputs can give such vectors."""
        if options.pooling == "pooler" and "pooler_output" not in outputs:
            raise InputError(
                "pooling is 'pooler', but this checkpoint has no pooler: use mean, cls or max"
            )
        size = self.config.hidden_size
        if options.dimensions is not None and options.dimensions > size:
            raise InputError(
                f"dimensions is {options.dimensions}, but this model has {size}: lower it"
            )

    def build_vector_request(
        self, input: TextPair, options: EmbedOptions, outputs: Sequence[str]
    ) -> HeadRequest:
        """Build the request of one input's vector, float32 [H] or [dimensions].

        If the graph has an output with such vectors, they are read from there. `outputs` are the
        names of the graph's outputs.
        """
        encodings = self.prepare(input, options).encodings
        tokens = "first" if options.pooling in ("cls", "pooler") else "all"
        embedding = embedding_output(options.pooling)
        if options.normalize and options.dimensions is None and embedding in outputs:
            # Copied: a view would keep the outputs of the whole batch alive.
            return HeadRequest(
                encodings, lambda samples: samples[0][embedding].copy(), (embedding,), tokens
            )

        def finish(samples: Sequence[SampleOutputs]) -> np.ndarray:
            return finish_vector(
                pool(samples[0], options.pooling),
                normalize=options.normalize,
                dimensions=options.dimensions,
            ).copy()

        source = "pooler_output" if options.pooling == "pooler" else "last_hidden_state"
        return HeadRequest(encodings, finish, (source,), tokens)

    def embed(
        self,
        inputs: Sequence[TextPair],
        runner: GraphRunner,
        options: EmbedOptions,
        outputs: Sequence[str],
    ) -> np.ndarray:
        """Return one vector for each input, float32 [n, H] or [n, dimensions]."""
        requests = [self.build_vector_request(input, options, outputs) for input in inputs]
        encodings = [request.encodings[0] for request in requests]
        size = options.dimensions or self.config.hidden_size
        vectors = np.empty((len(encodings), size), dtype=np.float32)
        samples = runner.run_encodings(
            encodings, outputs=requests[0].outputs, tokens=requests[0].tokens
        )
        for index, sample in samples:
            vectors[index] = requests[index].finish([sample])
        return vectors
