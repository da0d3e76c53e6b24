"""What a model takes and gives: texts and answers, or token ids and the graph's own outputs."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from bertrt.artifact.manifest import TensorSpec
from bertrt.serving.models import Model
from bertrt.serving.open_inference.tensors import InputTensor, refuse, show_shape

__all__ = [
    "TEXT",
    "TEXT_PAIR",
    "VERSION",
    "Signature",
    "TensorType",
    "choose",
    "count_elements",
    "signatures",
]

# A model has one version.
VERSION = "1"

# The inputs of texts. A question's pair is its context, and a prompt's are its choices.
TEXT = "text"
TEXT_PAIR = "text_pair"
_TAKES_PAIR = {
    "feature-extraction",
    "multiple-choice",
    "next-sentence-prediction",
    "pretraining",
    "question-answering",
    "text-classification",
}
_NEEDS_PAIR = {"multiple-choice", "next-sentence-prediction", "question-answering"}

_ARRAYS = ("input_ids", "attention_mask", "token_type_ids")


@dataclass(frozen=True)
class TensorType:
    """An input or output: its datatype, and its shape with -1 for a size that varies."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def describe(self) -> dict[str, Any]:
        """Return it as metadata."""
        return {"name": self.name, "datatype": self.datatype, "shape": self.shape}

    def check(self, tensor: InputTensor, model: str) -> None:
        """Raise HttpError unless a tensor is of this type."""
        if tensor.datatype != self.datatype:
            refuse(
                f"inference input '{self.name}' data-type is '{tensor.datatype[:20]}', but model "
                f"'{model}' expects '{self.datatype}'"
            )
        shape = tensor.shape
        # Texts are a list, or a column, as Triton has them for models that batch.
        if self.datatype == "BYTES" and len(self.shape) == 1 and shape[1:] == (1,):
            shape = shape[:1]
        if len(shape) != len(self.shape) or 0 in shape:
            self.refuse_shape(tensor, model)

    def refuse_shape(self, tensor: InputTensor, model: str) -> NoReturn:
        """Raise the error for a tensor of another shape."""
        refuse(
            f"unexpected shape for input '{self.name}' for model '{model}'. "
            f"Expected {show_shape(self.shape)}, got {show_shape(tensor.shape[:8])}"
        )


@dataclass(frozen=True)
class Signature:
    """One way to ask a model: its inputs, the names of those that it needs, and its outputs."""

    inputs: tuple[TensorType, ...]
    required: tuple[str, ...]
    outputs: tuple[TensorType, ...]


def signatures(model: Model) -> tuple[Signature, Signature]:
    """Return a model's signatures, of texts and of token ids."""
    return _of_texts(model), _of_arrays(model)


def choose(model: Model, inputs: Mapping[str, InputTensor]) -> Signature:
    """Return the signature that inputs are meant for, after a check of names and types.

    Raises HttpError for an unknown, missing or mistyped input, and for inputs of both signatures.
    """
    both = signatures(model)
    types = {kind.name: kind for signature in both for kind in signature.inputs}
    for name in inputs:
        if name not in types:
            refuse(f"unexpected inference input '{name[:100]}' for model '{model.name}'")
    of_texts, of_arrays = both
    is_texts = [any(name == kind.name for kind in of_texts.inputs) for name in inputs]
    if any(is_texts) and not all(is_texts):
        refuse(f"model '{model.name}' takes texts or token ids: give inputs of one kind")
    signature = of_texts if all(is_texts) else of_arrays
    if not inputs:
        count = len(signature.required)
        refuse(f"expected {count} inputs but got 0 inputs for model '{model.name}'")
    for name in signature.required:
        if name not in inputs:
            refuse(f"inference input '{name}' is missing for model '{model.name}'")
    for name, tensor in inputs.items():
        types[name].check(tensor, model.name)
    return signature


def count_elements(model: Model, shape: tuple[int, ...], names: Collection[str]) -> int:
    """Return how many numbers outputs have, for token ids of a shape [batch, …, sequence]."""
    graph = model.artifact.manifest.graph
    ids = next(spec for spec in graph.inputs if spec.name == "input_ids")
    sizes = dict(zip(ids.shape, shape, strict=True))

    def size_of(dimension: int | str) -> int:
        if isinstance(dimension, int):
            return dimension
        # Names that no input has are of rows ("batch*choices") and of tokens ("total_sequence").
        tokens = "sequence" in dimension
        return sizes.get(dimension, shape[-1] if tokens else math.prod(shape[:-1]))

    outputs = [spec for spec in graph.outputs if spec.name in names]
    return sum(math.prod(map(size_of, spec.shape)) for spec in outputs)


def _of_texts(model: Model) -> Signature:
    inputs = [TensorType(TEXT, "BYTES", (-1,))]
    if model.task in _TAKES_PAIR:
        shape = (-1, -1) if model.task == "multiple-choice" else (-1,)
        inputs.append(TensorType(TEXT_PAIR, "BYTES", shape))
    required = (TEXT, TEXT_PAIR) if model.task in _NEEDS_PAIR else (TEXT,)
    return Signature(tuple(inputs), required, _outputs_of_texts(model))


def _outputs_of_texts(model: Model) -> tuple[TensorType, ...]:
    if model.task == "feature-extraction":
        facts = model.artifact.manifest.embedding
        size = -1 if facts is None else min(facts.size, facts.dimensions or facts.size)
        return (TensorType("embedding", "FP32", (-1, size)),)
    if model.task == "text-classification":
        shape = (-1, len(model.labels))
        return TensorType("label", "BYTES", shape), TensorType("score", "FP32", shape)
    return (TensorType("answer", "BYTES", (-1,)),)


def _of_arrays(model: Model) -> Signature:
    graph = model.artifact.manifest.graph
    inputs = [spec for spec in graph.inputs if spec.name in _ARRAYS]
    return Signature(
        tuple(_type(spec, "INT64") for spec in inputs),
        _ARRAYS[:1],
        tuple(_type(spec, "FP32") for spec in graph.outputs),
    )


def _type(spec: TensorSpec, datatype: str) -> TensorType:
    return TensorType(
        spec.name, datatype, tuple(size if isinstance(size, int) else -1 for size in spec.shape)
    )
