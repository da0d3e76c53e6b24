"""Parse a runtime's calls: which head answers, with which options, from which inputs.

`Runtime` answers a call at once; `DynamicBatcher` turns its inputs into requests and queues them.
Both parse it here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from bertrt.artifact.manifest import TaskFacts
from bertrt.artifact.model_config import ModelConfig
from bertrt.errors import InputError, shorten
from bertrt.heads import HEADS
from bertrt.heads.base import Head
from bertrt.heads.feature_extraction import EmbedOptions, FeatureExtraction
from bertrt.heads.multi_vector_calls import EmbedTokensCall, MaxSimCall
from bertrt.heads.multi_vector_embedding import (
    DocumentOptions,
    EmbedTokensOptions,
    MultiVectorEmbedding,
)
from bertrt.heads.quantize_embeddings import quantize_embeddings, read_ranges, require_ranges
from bertrt.heads.request import Answer, GraphRunner, HeadRequest
from bertrt.heads.reranking import ScoreOptions, read_pairs, score_pairs, score_request
from bertrt.heads.sparse_embedding import SparseEmbedding, SparseOptions
from bertrt.heads.sparse_vectors import SparseVector
from bertrt.heads.text_classification import TextClassification
from bertrt.tokenizer import Tokenizer

__all__ = ["BoundCall", "Call", "CallParser"]


class Call(Protocol):
    """A call whose options are parsed. Its inputs are read later, perhaps in several chunks."""

    def read(self, *inputs: Any) -> tuple[list[Any], bool]:
        """Parse the call's arguments; return its inputs, and whether it had a single one."""

    def answer(self, inputs: Sequence[Any], runner: GraphRunner) -> Any:
        """Answer many inputs, batched together; return a sequence with one answer for each."""

    def request(self, input: Any, runner: GraphRunner) -> HeadRequest:
        """Build the request of one input; nothing runs yet."""

    def join(self, answers: Sequence[Answer]) -> Any:
        """Return the answer to a list of inputs, from the answers of their requests."""

    def unwrap(self, answer: Answer, input: Any) -> Answer:
        """Return the answer to a single input, from its answer in a list."""


class CallParser:
    """Parses the calls of a runtime, which has one head and one graph."""

    def __init__(
        self,
        task: str,
        tokenizer: Tokenizer,
        config: ModelConfig,
        outputs: Sequence[str],
        facts: TaskFacts | None = None,
        arrays: Mapping[str, np.ndarray] = MappingProxyType({}),
    ) -> None:
        """Parse calls for a task.

        Args:
            task: the head's task.
            tokenizer: the artifact's tokenizer.
            config: the model's sizes and labels.
            outputs: the names of the graph's outputs.
            facts: what the task needs to know beside its graph, if anything.
            arrays: the arrays that `facts` name, by their files' names.

        Raises ArtifactError if the task needs facts that are not given.
        """
        self.head = HEADS[task](tokenizer, config)
        self._tokenizer = tokenizer
        self._config = config
        self._outputs = outputs
        self.head.take_facts(facts, arrays)

    def parse_method(
        self, method: str, options: Mapping[str, Any], *, streamed: bool = False
    ) -> Call:
        """Parse the keyword arguments of a runtime's method, "call" for `Runtime.__call__`.

        `streamed` says that not all inputs are known at once.

        Raises InputError for another method, and as the method's own parser does.
        """
        parsers: dict[str, Callable[[Mapping[str, Any]], Call]] = {
            "call": self.parse,
            "embed": partial(self.parse_embed, streamed=streamed),
            "embed_sparse": self.parse_embed_sparse,
            "embed_tokens": self.parse_embed_tokens,
            "maxsim": self.parse_maxsim,
            "score": lambda options: self.parse_score(options, "score"),
        }
        if method not in parsers:
            raise InputError(f"method is {shorten(method)}: use {', '.join(parsers)}")
        return parsers[method](options)

    def parse(self, options: Mapping[str, Any]) -> Call:
        """Parse the keyword arguments of a call. Raises InputError for a wrong option."""
        head = self.head
        if "candidate_labels" in options and head.task == "text-classification":
            # With candidate labels a classifier answers as zero-shot-classification does.
            head = HEADS["zero-shot-classification"](self._tokenizer, self._config)
        named = {name: options[name] for name in head.input_names if name in options}
        rest = {name: value for name, value in options.items() if name not in named}
        return _HeadCall(head, head.parse_options(rest), named)

    def parse_embed(self, options: Mapping[str, Any], *, streamed: bool = False) -> Call:
        """Parse the keyword arguments of `embed`; `streamed` says that its inputs are an iterator.

        Raises InputError for a wrong option, and if the artifact is for another task.
        """
        head = self.head
        if not isinstance(head, FeatureExtraction):
            raise InputError(
                f"embed needs an artifact for feature-extraction, but this one is for {head.task}: "
                "export the checkpoint again with --task feature-extraction"
            )
        parsed = head.parse_options(options, EmbedOptions)
        resolved = head.resolve_embed_options(parsed, self._outputs)
        if resolved.ranges is not None:
            size = head.vector_size(resolved)
            resolved = replace(resolved, ranges=read_ranges(resolved.ranges, size))
        if streamed:
            require_ranges(resolved.precision, resolved.ranges, "an iterator")
        return _EmbedCall(head, resolved)

    def parse_embed_sparse(self, options: Mapping[str, Any]) -> Call:
        """Parse the keyword arguments of `embed_sparse`.

        Raises InputError for a wrong option, and if the artifact is for another task.
        """
        head = self.head
        if not isinstance(head, SparseEmbedding):
            raise InputError(
                f"embed_sparse needs an artifact for sparse-embedding, but this one is for "
                f"{head.task}: export a SPLADE checkpoint with --task sparse-embedding"
            )
        return _SparseCall(head, head.resolve(head.parse_options(options)))

    def parse_embed_tokens(self, options: Mapping[str, Any]) -> EmbedTokensCall:
        """Parse the keyword arguments of `embed_tokens`.

        Raises InputError for a wrong option, and if the artifact is for another task.
        """
        head = self._multi_vector("embed_tokens")
        return EmbedTokensCall(head, head.resolve(head.parse_options(options)))

    def parse_maxsim(self, options: Mapping[str, Any]) -> MaxSimCall:
        """Parse `query`, a query's vectors, and the options of documents to score with it.

        Raises InputError as `parse_embed_tokens` does.
        """
        head = self._multi_vector("maxsim")
        given = dict(options)
        query = given.pop("query", None)
        if query is None:
            raise InputError("maxsim needs query: give the vectors that embed_tokens returns")
        parsed = head.parse_options(given, DocumentOptions)
        documents = head.resolve(EmbedTokensOptions(**vars(parsed), kind="document"))
        return MaxSimCall(head, documents, query)

    def _multi_vector(self, what: str) -> MultiVectorEmbedding:
        """Return the head. Raises InputError if the artifact is for another task."""
        if not isinstance(self.head, MultiVectorEmbedding):
            raise InputError(
                f"{what} needs an artifact for multi-vector-embedding, but this one is for "
                f"{self.head.task}: export a ColBERT checkpoint"
            )
        return self.head

    def parse_score(self, options: Mapping[str, Any], what: str) -> Call:
        """Parse the keyword arguments of `score` or `rank`; `what` is its name.

        Raises InputError for a wrong option, and if the artifact cannot rank or score.
        """
        head = self.head
        if not isinstance(head, TextClassification):
            tasks, checkpoint = "text-classification", "a cross-encoder"
            if what == "rank":  # which has a call of its own for multi-vector models
                tasks += " or multi-vector-embedding"
                checkpoint += " or a ColBERT checkpoint"
            raise InputError(
                f"{what} needs an artifact for {tasks}, but this one is for {head.task}: export "
                f"{checkpoint}"
            )
        labels = len(self._config.labels)
        if what == "rank" and labels != 1:
            raise InputError(
                f"rank needs a model with one label, but this one has {labels}: score the "
                "pairs, and rank by the label that you choose"
            )
        return _ScoreCall(
            head, head.parse_options(options, ScoreOptions).resolve(head.cross_encoder)
        )


@dataclass(frozen=True)
class BoundCall:
    """A call with its inputs, which are answered one by one.

    Attributes:
        call: the call.
        items: its inputs.
        single: whether it has one that is not in a list.
    """

    call: Call
    items: Sequence[Any]
    single: bool

    @classmethod
    def read(cls, call: Call, *inputs: Any) -> "BoundCall":
        """Read a call's inputs. Raises InputError for those that it cannot use."""
        return cls(call, *call.read(*inputs))

    @classmethod
    def read_one(cls, call: Call, *inputs: Any) -> "BoundCall":
        """Read one input, alone or in a list. Raises InputError for more than one."""
        bound = cls.read(call, *inputs)
        if len(bound.items) != 1:
            raise InputError(
                f"a batcher answers one input at a time, but got a list of {len(bound.items)}: "
                "submit each, use submit_many, or call the runtime itself"
            )
        return bound

    def requests(self, runner: GraphRunner) -> Iterator[HeadRequest]:
        """Build the request of each input when it is asked for."""
        return (self.call.request(item, runner) for item in self.items)

    def answer(self, answers: Sequence[Answer]) -> Any:
        """Return what the runtime answers to these inputs, from the answers of their requests."""
        joined = self.call.join(answers)
        return self.call.unwrap(joined[0], self.items[0]) if self.single else joined


@dataclass(frozen=True)
class _HeadCall:
    """A call of a head; `named` holds the inputs that were passed by keyword."""

    head: Head
    options: Any
    named: Mapping[str, Any]

    def read(self, *inputs: Any) -> tuple[list[Any], bool]:
        return self.head.read_inputs(*inputs, **self.named)

    def answer(self, inputs: Sequence[Any], runner: GraphRunner) -> list[Answer]:
        return self.head.answer(inputs, runner, self.options)

    def request(self, input: Any, runner: GraphRunner) -> HeadRequest:
        return self.head.build_request(input, runner, self.options)

    def join(self, answers: Sequence[Answer]) -> list[Answer]:
        return list(answers)

    def unwrap(self, answer: Answer, input: Any) -> Answer:
        return self.head.unwrap(answer, input)


@dataclass(frozen=True)
class _EmbedCall:
    """A call of `embed`: an answer is a vector [H], float32 or quantized."""

    head: FeatureExtraction
    options: EmbedOptions

    def read(self, *inputs: Any) -> tuple[list[Any], bool]:
        items, single = self.head.read_embed_inputs(*inputs)
        if len(items) == 1:
            require_ranges(self.options.precision, self.options.ranges, "a single text")
        return items, single

    def answer(self, inputs: Sequence[Any], runner: GraphRunner) -> np.ndarray:
        return self._stored(self.head.embed(inputs, runner, self.options))

    def request(self, input: Any, runner: GraphRunner) -> HeadRequest:
        return self.head.build_vector_request(input, self.options)

    def join(self, answers: Sequence[Answer]) -> np.ndarray:
        # Ranges are those of the whole list, so vectors are quantized when all are there.
        return self._stored(np.stack(answers))

    def _stored(self, vectors: np.ndarray) -> np.ndarray:
        """Return vectors in the precision that was asked for."""
        if self.options.precision == "float32":
            return vectors
        return quantize_embeddings(vectors, self.options.precision, self.options.ranges)

    def unwrap(self, answer: Answer, input: Any) -> Answer:
        # Not a view of the list's array, so that the caller may keep it.
        return np.array(answer)


@dataclass(frozen=True)
class _SparseCall:
    """A call of `embed_sparse`: an answer is a `SparseVector`."""

    head: SparseEmbedding
    options: SparseOptions

    def read(self, *inputs: Any) -> tuple[list[Any], bool]:
        return self.head.read_inputs(*inputs)

    def answer(self, inputs: Sequence[Any], runner: GraphRunner) -> list[SparseVector]:
        return self.head.embed(inputs, runner, self.options)

    def request(self, input: Any, runner: GraphRunner) -> HeadRequest:
        return self.head.build_sparse_request(input, self.options)

    def join(self, answers: Sequence[Answer]) -> list[SparseVector]:
        return list(answers)

    def unwrap(self, answer: Answer, input: Any) -> Answer:
        return answer


@dataclass(frozen=True)
class _ScoreCall:
    """A call of `score`: an answer is a float or, from several labels, float32 [labels]."""

    head: TextClassification
    options: ScoreOptions

    def read(self, *inputs: Any) -> tuple[list[Any], bool]:
        return read_pairs(*inputs)

    def answer(self, inputs: Sequence[Any], runner: GraphRunner) -> np.ndarray:
        return score_pairs(self.head, inputs, runner, self.options)

    def request(self, input: Any, runner: GraphRunner) -> HeadRequest:
        return score_request(self.head, input, self.options)

    def join(self, answers: Sequence[Answer]) -> np.ndarray:
        labels = len(self.head.config.labels)
        scores = np.array(answers, dtype=np.float32).reshape(len(answers), labels)
        return scores[:, 0] if labels == 1 else scores

    def unwrap(self, answer: Answer, input: Any) -> Answer:
        scores = np.asarray(answer)
        return float(scores.reshape(-1)[0]) if scores.size == 1 else scores
