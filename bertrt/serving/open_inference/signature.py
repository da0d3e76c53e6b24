"""What a model takes and gives: texts and answers, or token ids and the graph's own outputs."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NoReturn

from bertrt.artifact.manifest import TensorSpec
from bertrt.serving.models import Model
from bertrt.serving.open_inference.tensors import InputTensor, refuse, show_shape
from bertrt.text_tensors import (
    NEEDS_PAIR,
    TEXT,
    TEXT_PAIR,
    TensorType,
    text_inputs,
    text_outputs,
)

__all__ = ["VERSION", "Signature", "choose", "count_elements", "refuse_shape", "signatures"]

# A model has one version.
VERSION = "1"

_ARRAYS = ("input_ids", "attention_mask", "token_type_ids")


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
        _check(types[name], tensor, model.name)
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


def refuse_shape(kind: TensorType, tensor: InputTensor, model: str) -> NoReturn:
    """Raise the error for a tensor that has not the shape of its type."""
    refuse(
        f"unexpected shape for input '{kind.name}' for model '{model}'. "
        f"Expected {show_shape(kind.shape)}, got {show_shape(tensor.shape[:8])}"
    )


def _check(kind: TensorType, tensor: InputTensor, model: str) -> None:
    """Raise HttpError unless a tensor is of a type."""
    if tensor.datatype != kind.datatype:
        refuse(
            f"inference input '{kind.name}' data-type is '{tensor.datatype[:20]}', but model "
            f"'{model}' expects '{kind.datatype}'"
        )
    shape = tensor.shape
    # Texts are a list, or a column, as Triton has them for models that batch.
    if kind.datatype == "BYTES" and len(kind.shape) == 1 and shape[1:] == (1,):
        shape = shape[:1]
    if len(shape) != len(kind.shape) or 0 in shape:
        refuse_shape(kind, tensor, model)


def _of_texts(model: Model) -> Signature:
    required = (TEXT, TEXT_PAIR) if model.task in NEEDS_PAIR else (TEXT,)
    outputs = text_outputs(model.task, model.labels, model.embedding)
    return Signature(text_inputs(model.task), required, outputs)


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
