"""How a task answers a row: with which method of the runtime, and in which columns."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bertrt.batch.answer_columns import (
    AnswerColumns,
    JsonColumns,
    LabelColumns,
    SparseColumns,
    TokenVectorColumns,
    VectorColumns,
)
from bertrt.errors import InputError
from bertrt.runtime import Runtime

__all__ = ["EMBED", "AnswerForm", "choose_form"]

# The task of any artifact that gives vectors, by the name of the command for a few texts.
EMBED = "embed"

_VECTORS = ("feature-extraction", "sparse-embedding", "multi-vector-embedding")
_MORE_THAN_A_TEXT = ("multiple-choice", "next-sentence-prediction", "question-answering")
_KINDS = ("query", "document")


@dataclass(frozen=True)
class AnswerForm:
    """How a task answers a row.

    Attributes:
        method: the method of the runtime, as `Runtime.answer_each` takes it.
        options: its options.
        columns: the columns of its answers.
        metadata: what a reader of these should know, as text.
    """

    method: str
    options: Mapping[str, Any]
    columns: AnswerColumns
    metadata: Mapping[str, str]


def choose_form(runtime: Runtime, task: str | None, options: Mapping[str, Any]) -> AnswerForm:
    """Return how a runtime answers a row.

    Args:
        runtime: the runtime, whose own task it is.
        task: "embed" if vectors are asked for by that name.
        options: the options of the task.

    Raises InputError for a task that answers more than a text, and for a wrong option.
    """
    own = runtime.info["task"]
    if task == EMBED and own not in _VECTORS:
        raise InputError(
            f"task is 'embed', but this artifact is for {own}, which gives no vectors: leave the "
            "task out"
        )
    if own in _MORE_THAN_A_TEXT:
        raise InputError(
            f"{own} needs more than a text for an answer, and a table has one column of texts: use "
            "'bertrt run'"
        )
    form = _FORMS.get(own, _json_form)(runtime, options)
    runtime.answer_each(form.method, [], **form.options)  # checks the options
    return form


def _vector_form(runtime: Runtime, options: Mapping[str, Any]) -> AnswerForm:
    given = dict(options)
    kind = given.pop("kind", None)
    if kind is not None:
        if kind not in _KINDS:
            raise InputError(f"kind is {kind!r}: use {' or '.join(_KINDS)}")
        given = {"prompt_name": kind, **given}
    # Any text tells the size and the dtype of a vector.
    (probe,) = runtime.answer_each("embed", [""], **{**given, "truncation": True})
    if probe.error is not None:
        raise probe.error
    vector: np.ndarray = probe.answer
    facts = runtime.info["embedding"]
    pooling = given.get("pooling") or facts["pooling"]
    normalize = given.get("normalize")
    if normalize is None:
        normalize = facts["modules"][-1:] == ("Normalize",)
    metadata = {
        "pooling": pooling if isinstance(pooling, str) else ",".join(pooling),
        "normalize": json.dumps(normalize),
        "dimensions": str(len(vector)),
    }
    return AnswerForm("embed", given, VectorColumns(len(vector), vector.dtype), metadata)


def _sparse_form(runtime: Runtime, options: Mapping[str, Any]) -> AnswerForm:
    metadata = {"dimensions": str(runtime.info["sparse"]["size"])}
    return AnswerForm("embed_sparse", options, SparseColumns(), metadata)


def _token_vector_form(runtime: Runtime, options: Mapping[str, Any]) -> AnswerForm:
    if options.get("kind") is None:
        raise InputError(
            "a multi-vector model embeds queries and documents differently: give kind, query or "
            "document"
        )
    size = runtime.info["multi_vector"]["size"]
    metadata = {"dimensions": str(size)}
    return AnswerForm("embed_tokens", options, TokenVectorColumns(size), metadata)


def _label_form(runtime: Runtime, options: Mapping[str, Any]) -> AnswerForm:
    if "candidate_labels" in options:  # answers as zero-shot-classification does
        return _json_form(runtime, options)
    if "top_k" in options:
        raise InputError(
            "top_k is not for tables, which have the scores of all labels: leave it out"
        )
    columns = LabelColumns(runtime.info["labels"])
    metadata = {"labels": json.dumps(columns.labels, ensure_ascii=False)}
    return AnswerForm("call", {**options, "top_k": None}, columns, metadata)


def _json_form(runtime: Runtime, options: Mapping[str, Any]) -> AnswerForm:
    if options.get("is_split_into_words"):
        raise InputError(
            "is_split_into_words is not for tables, whose column has texts: leave it out"
        )
    return AnswerForm("call", options, JsonColumns(), {})


_FORMS = {
    "feature-extraction": _vector_form,
    "sparse-embedding": _sparse_form,
    "multi-vector-embedding": _token_vector_form,
    "text-classification": _label_form,
}
