"""The tasks: nine heads of BERT, and encoders that sentence-transformers builds on them."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from bertrt.errors import ExportError
from bertrt.export.architectures.architecture import Architecture

__all__ = [
    "ALIASES",
    "ENCODERS",
    "FIRST_TOKEN_TASKS",
    "HEADS",
    "MASK_TASKS",
    "TRANSFORM_TASKS",
    "VECTOR_TASKS",
    "HeadSpec",
    "class_of",
    "head_for",
]


_WORDS, _NEXT, _POOLER = "cls.predictions.", "cls.seq_relationship.", "pooler."


@dataclass(frozen=True)
class HeadSpec:
    """A task: its name, transformers' class of BERT for it and its graph's outputs, in order.

    `weights` are the beginnings of the names of the weights that it needs beside BERT's encoder.
    Other encoders have classes and names for the same: see `bertrt.export.architectures`.
    """

    task: str
    class_name: str
    outputs: tuple[str, ...]
    weights: tuple[str, ...] = ()


HEADS: tuple[HeadSpec, ...] = (
    HeadSpec("feature-extraction", "BertModel", ("last_hidden_state", "pooler_output")),
    HeadSpec(
        "pretraining",
        "BertForPreTraining",
        ("prediction_logits", "seq_relationship_logits"),
        (_POOLER, _WORDS, _NEXT),
    ),
    HeadSpec("text-generation", "BertLMHeadModel", ("logits",), (_WORDS,)),
    HeadSpec("fill-mask", "BertForMaskedLM", ("logits",), (_WORDS,)),
    HeadSpec(
        "next-sentence-prediction", "BertForNextSentencePrediction", ("logits",), (_POOLER, _NEXT)
    ),
    HeadSpec(
        "text-classification",
        "BertForSequenceClassification",
        ("logits",),
        (_POOLER, "classifier."),
    ),
    HeadSpec("multiple-choice", "BertForMultipleChoice", ("logits",), (_POOLER, "classifier.")),
    HeadSpec("token-classification", "BertForTokenClassification", ("logits",), ("classifier.",)),
    HeadSpec(
        "question-answering",
        "BertForQuestionAnswering",
        ("start_logits", "end_logits"),
        ("qa_outputs.",),
    ),
)

# Tasks with a module of bertrt's own on top of the transformers class, which gives the outputs. No
# architecture of a config names them: `bertrt.export.checkpoints.saved_task` finds them.
ENCODERS: tuple[HeadSpec, ...] = (
    HeadSpec("multi-vector-embedding", "BertModel", ("token_embeddings",)),
    HeadSpec("sparse-embedding", "BertForMaskedLM", ("sparse_embedding",), (_WORDS,)),
)

# Tasks whose heads read the first token only.
FIRST_TOKEN_TASKS = ("text-classification", "next-sentence-prediction", "multiple-choice")
# Tasks that may need the logits of mask tokens only.
MASK_TASKS = ("fill-mask", "pretraining")
# Tasks whose heads have a linear layer, activation and LayerNormalization before the vocabulary.
TRANSFORM_TASKS = ("pretraining", "text-generation", "fill-mask", "sparse-embedding")

# Tasks whose answers are vectors, which are compared by their cosine.
VECTOR_TASKS = ("feature-extraction", "multi-vector-embedding", "sparse-embedding")

# Tasks that use the graph of another task.
ALIASES = {"zero-shot-classification": "text-classification"}

# Flax names one class differently, and its checkpoints have that name as their architecture.
_OTHER_CLASS_NAMES = {"BertForCausalLM": "BertLMHeadModel"}


def class_of(architecture: Any) -> str:
    """Return the class of PyTorch that a config's architecture is, without `TF` or `Flax`."""
    name = re.sub(r"^(TF|Flax)(?=[A-Z])", "", str(architecture))
    return _OTHER_CLASS_NAMES.get(name, name)


def head_for(
    task: str | None,
    architectures: list[str] | None,
    weights: Collection[str] = (),
    architecture: Architecture | None = None,
) -> HeadSpec:
    """Return the head of a task or, without a task, of a config's `architectures`.

    Args:
        task: a Hugging Face task.
        architectures: the field of the config; the first that is a head counts.
        weights: the names of the checkpoint's weights, for the error.
        architecture: the encoder; None for BERT.

    Raises ExportError if neither names one of them, and for a head that transformers does not have
    for the encoder.
    """
    if task is None:
        return _head_of_class(architectures, weights, architecture)
    for head in (*HEADS, *ENCODERS):
        if head.task == ALIASES.get(task, task):
            return _supported(head, architecture)
    tasks = ", ".join([head.task for head in (*HEADS, *ENCODERS)] + list(ALIASES))
    raise ExportError(f"unknown task {task!r}: choose one of {tasks}")


def _head_of_class(
    architectures: list[str] | None,
    weights: Collection[str],
    architecture: Architecture | None,
) -> HeadSpec:
    heads = {head.class_name: head for head in HEADS}
    for name in architectures or ():
        class_name = class_of(name)
        if architecture is not None:
            class_name = architecture.bert_class(class_name)
        head = heads.get(class_name)
        if head is not None and (architecture is None or architecture.has_head(head.task)):
            return head
    # An encoder without weights of its own is known by its files, and not by its weights.
    known = (*HEADS, *(head for head in ENCODERS if head.weights))
    servable = ", ".join(head.task for head in known if _has(weights, head, architecture))
    raise ExportError(
        f"the config's architectures are {architectures!r}, none of which is a head that bertrt "
        f"exports: choose one that the weights can serve with --task ({servable})"
    )


def _supported(head: HeadSpec, architecture: Architecture | None) -> HeadSpec:
    """Return the head; raises ExportError if transformers has none like it for the encoder."""
    if architecture is None or architecture.has_head(head.task):
        return head
    there = ", ".join(one.task for one in (*HEADS, *ENCODERS) if architecture.has_head(one.task))
    raise ExportError(
        f"{architecture.config.model_type} has no head for {head.task}: choose another --task "
        f"({there})"
    )


def _has(weights: Collection[str], head: HeadSpec, architecture: Architecture | None) -> bool:
    """Whether the weights include a head's, in any number and shape."""
    names: Collection[str] = weights
    if architecture is not None:
        if not architecture.has_head(head.task):
            return False
        names = [one for name in weights for one in architecture.bert_names(name, head.task)]
    names = [name.removeprefix("bert.") for name in names]
    return all(any(name.startswith(start) for name in names) for start in head.weights)
