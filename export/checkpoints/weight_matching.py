"""Match stored weights with a model's parameters by name, and check their shapes.

Names are BERT's, as heads have them, with the encoder's under `bert.`; files of a bare model lack
that prefix.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from bertrt.errors import ExportError
from bertrt.export.architectures.architecture import Architecture

__all__ = ["BODY", "Match", "head_form", "match"]

# The encoder's weights, which a checkpoint must have. The pooler, like heads, may be new.
BODY = ("bert.embeddings.", "bert.encoder.")

_OTHER_HEADS = ("bert.pooler.", "cls.", "classifier.", "qa_outputs.")
# Constants that older versions of transformers saved as weights.
_BUFFERS = ("bert.embeddings.position_ids", "bert.embeddings.token_type_ids")
_LAYER = re.compile(r"bert\.encoder\.layer\.(\d+)\.")

# For some weights, the config's field of each dimension, under BERT's name.
_FIELDS = {
    "bert.embeddings.word_embeddings.weight": ("vocab_size", "embedding_size"),
    "bert.embeddings.position_embeddings.weight": ("max_position_embeddings", "embedding_size"),
    "bert.embeddings.token_type_embeddings.weight": ("type_vocab_size", "embedding_size"),
    "bert.embeddings.projection.weight": ("hidden_size", "embedding_size"),
    "bert.encoder.layer.0.intermediate.dense.weight": ("intermediate_size", "hidden_size"),
    "classifier.weight": ("num_labels", "hidden_size"),
    "cls.predictions.decoder.weight": ("vocab_size", "embedding_size"),
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Match:
    """The stored tensor of each parameter that has one, and the names of those without."""

    found: dict[str, torch.Tensor]
    missing: tuple[str, ...]


def head_form(
    weights: Mapping[str, torch.Tensor], architecture: Architecture
) -> dict[str, torch.Tensor]:
    """Return the weights by their names in a head, with those of a bare encoder under its name.

    Raises ExportError if there is a name both with the encoder's and without.
    """
    named: dict[str, torch.Tensor] = {}
    for stored, tensor in weights.items():
        bare = stored.startswith(architecture.parts)
        name = f"{architecture.base}.{stored}" if bare else stored
        if name in named:
            raise ExportError(
                f"the checkpoint has {stored!r} twice, with '{architecture.base}.' and without: "
                "save it again with one of them"
            )
        named[name] = tensor
    return named


def match(
    expected: Mapping[str, torch.Size],
    weights: Mapping[str, torch.Tensor],
    architecture: Architecture,
    stored: Mapping[str, str],
) -> Match:
    """Match parameters with stored weights; both are named as in heads.

    Weights of other heads are ignored, and so are unknown weights outside the encoder, with one
    warning that names them.

    Args:
        expected: the shape of each parameter.
        weights: the stored weights.
        architecture: the encoder, whose config is named in errors.
        stored: the names in the file, for errors, of weights that have other names there.

    Raises ExportError if the config contradicts the weights: if one has a layer, a shape or a part
    of the encoder that the other has not.
    """
    _check_layers(weights, architecture)
    other = []
    for name in weights:
        if name in expected or name in _BUFFERS or name.startswith(_OTHER_HEADS):
            continue
        if name.startswith("bert."):
            raise ExportError(
                f"the config contradicts the weights: they include {stored.get(name, name)!r}, "
                "which a model of this config does not have"
            )
        other.append(name)
    if other:
        more = f" and {len(other) - 4} more" if len(other) > 4 else ""
        _log.warning(
            "%d weights belong to no head and are left out: %s%s",
            len(other),
            ", ".join(other[:4]),
            more,
        )
    found = {name: weights[name] for name in expected if name in weights}
    for name, tensor in found.items():
        _check_tensor(name, tensor, expected[name], architecture, stored.get(name, name))
    return Match(found, tuple(name for name in expected if name not in weights))


def _check_layers(weights: Mapping[str, torch.Tensor], architecture: Architecture) -> None:
    field = _own_field("num_hidden_layers", architecture)
    if architecture.layer_count != field:
        return  # layers share weights, and those that lack or are surplus are named later
    layers = {int(found[1]) for name in weights if (found := _LAYER.match(name))}
    expected = getattr(architecture.config, field)
    if layers and len(layers) != expected:
        raise ExportError(
            f"the config contradicts the weights: its {field} is {expected}, and the weights have "
            f"{len(layers)} layers"
        )


def _check_tensor(
    name: str,
    tensor: torch.Tensor,
    shape: torch.Size,
    architecture: Architecture,
    stored_name: str,
) -> None:
    if not tensor.is_floating_point():
        raise ExportError(
            f"the weight {stored_name!r} is {tensor.dtype}: only float weights can be exported"
        )
    if tensor.shape == shape:
        return
    stored, expected = list(tensor.shape), list(shape)
    fields = [_own_field(field, architecture) for field in _FIELDS.get(name, ())]
    for field, size, stored_size in zip(fields, expected, stored, strict=False):
        if size != stored_size and getattr(architecture.config, field) == size:
            raise ExportError(
                f"the config contradicts the weights: its {field} is {size}, and {stored_name!r} "
                f"has {stored_size} (shape {stored})"
            )
    raise ExportError(
        f"the config contradicts the weights: {stored_name!r} has the shape {stored}, and the "
        f"config requires {expected}"
    )


def _own_field(field: str, architecture: Architecture) -> str:
    """Return the name that a field has in the encoder's own config."""
    if field == "embedding_size" and not hasattr(architecture.config, field):
        field = "hidden_size"
    return architecture.fields.get(field, field)
