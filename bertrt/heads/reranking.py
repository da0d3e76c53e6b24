"""Scores of pairs, and documents ranked by them, as sentence-transformers' CrossEncoder gives them.

A cross-encoder is a `text-classification` model that reads a query and a document together. The
functions here follow `CrossEncoder.predict` and `CrossEncoder.rank` of sentence-transformers 6.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bertrt.artifact.manifest import CrossEncoderFacts
from bertrt.checks import check_flag, check_strings, check_whole
from bertrt.errors import InputError, shorten
from bertrt.heads.base import Options, TextPair
from bertrt.heads.prompts import check_prompt, choose_prompt
from bertrt.heads.request import GraphRunner, HeadRequest, SampleOutputs
from bertrt.heads.scores import sigmoid
from bertrt.heads.text_classification import TextClassification
from bertrt.heads.truncation import truncation_kwargs

__all__ = [
    "ACTIVATIONS",
    "ScoreOptions",
    "check_ranking",
    "rank_documents",
    "read_pairs",
    "score_pairs",
    "score_request",
]

# What turns logits into scores, by name.
ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda logits: logits,
    "relu": lambda logits: np.maximum(logits, 0),
    "sigmoid": sigmoid,
    "tanh": np.tanh,
}


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(Options):
    """Options of `score` and `rank`.

    Attributes:
        truncation: as for every head, but True by default: as in CrossEncoder, a pair that is too
            long is cut, the longer text first.
        activation: what turns logits into scores: a name in `ACTIVATIONS`; None for the model's.
        prompt: what to put before each pair's first text; None for the model's.
        prompt_name: the name of one of the model's prompts, if `prompt` is None.
    """

    truncation: bool | str = True
    activation: str | None = None
    prompt: str | None = None
    prompt_name: str | None = None

    def __post_init__(self) -> None:
        check_prompt(self.prompt, self.prompt_name)
        if self.activation is not None and self.activation not in ACTIVATIONS:
            raise InputError(
                f"activation is {shorten(self.activation)}: use one of {', '.join(ACTIVATIONS)}"
            )

    def resolve(self, facts: CrossEncoderFacts) -> "ScoreOptions":
        """Fill in what the model's files say. Raises InputError for a prompt that it lacks."""
        return replace(
            self,
            activation=self.activation or facts.activation,
            max_length=facts.max_length if self.max_length is None else self.max_length,
            prompt=choose_prompt(
                self.prompt, self.prompt_name, facts.prompts, facts.default_prompt_name
            ),
        )


def read_pairs(*inputs: Any) -> tuple[list[TextPair], bool]:
    """Parse `("A", "B")` or a list of such pairs, each a tuple or a list of two strings.

    Returns the pairs, and whether there was a single one. Raises InputError for anything else.
    """
    (value,) = inputs
    if _is_pair(value):
        return [TextPair(*value)], True
    if not isinstance(value, list):
        raise _no_pair(value)
    for item in value:
        if not _is_pair(item):
            raise _no_pair(item)
    return [TextPair(*item) for item in value], False


def score_pairs(
    head: TextClassification,
    pairs: Sequence[TextPair],
    runner: GraphRunner,
    options: ScoreOptions,
) -> np.ndarray:
    """Return the scores of pairs, float32 [n], or [n, labels] from a model with several labels."""
    requests = [score_request(head, pair, options) for pair in pairs]
    labels = len(head.config.labels)
    scores = np.empty((len(pairs), labels), dtype=np.float32)
    encodings = [request.encodings[0] for request in requests]
    if encodings:
        for index, sample in runner.run_encodings(encodings, tokens=head.tokens):
            scores[index] = requests[index].finish([sample])
    return scores[:, 0] if labels == 1 else scores


def score_request(head: TextClassification, pair: TextPair, options: ScoreOptions) -> HeadRequest:
    """Build the request of one pair's scores, float32 [labels], with options that are resolved."""
    # An empty document makes a pair too, as in the lists that CrossEncoder tokenizes.
    encoding = head.tokenizer.encode(
        f"{options.prompt or ''}{pair.text}",
        pair.pair,
        empty_pair=True,
        **truncation_kwargs(options),
    )
    activation = ACTIVATIONS[options.activation or head.cross_encoder.activation]

    def finish(samples: Sequence[SampleOutputs]) -> np.ndarray:
        return activation(samples[0]["logits"])

    return HeadRequest([encoding], finish, tokens=head.tokens)


def check_ranking(query: Any, documents: Any, top_k: Any, return_documents: Any) -> None:
    """Raise InputError for arguments of `rank` that cannot be used."""
    if not isinstance(query, str):
        raise InputError(f"the query is {shorten(query)}: give a string")
    if not isinstance(documents, (list, tuple)):
        raise InputError(f"documents is {shorten(documents)}: give a list of strings")
    if documents:
        check_strings("documents", documents)
    if top_k is not None:
        check_whole("top_k", top_k, least=1)
    check_flag("return_documents", return_documents)


def rank_documents(
    documents: Sequence[str], scores: np.ndarray, *, top_k: int | None, return_documents: bool
) -> list[dict[str, Any]]:
    """Return `[{"corpus_id", "score"}, …]`, best first; documents with equal scores in order.

    Args:
        documents: the documents that were scored.
        scores: their scores, float32 [n].
        top_k: how many to return; all when None.
        return_documents: whether to add each document as "text".
    """
    order = np.argsort(-scores, kind="stable")[:top_k]
    ranked: list[dict[str, Any]] = [
        {"corpus_id": int(index), "score": float(scores[index])} for index in order
    ]
    if return_documents:
        for entry in ranked:
            entry["text"] = documents[entry["corpus_id"]]
    return ranked


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and all(isinstance(part, str) for part in value)
    )


def _no_pair(value: Any) -> InputError:
    return InputError(
        f"an input is {shorten(value)}: give a pair of strings ('query', 'document'), or a list of "
        "pairs"
    )
