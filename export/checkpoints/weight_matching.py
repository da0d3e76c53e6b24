"""Which stored weight belongs to which parameter: by name, once each, with its shape checked.

Names are compared in the form that heads have, with the encoder's under `bert.`; files of a bare
BertModel have it without.
"""

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from transformers import BertConfig

from bertrt.errors import ExportError

__all__ = ["BODY", "Match", "head_form", "match"]

# What makes the encoder; the pooler, like the heads, may be absent or new.
BODY = ("bert.embeddings.", "bert.encoder.")

_BASE = ("embeddings.", "encoder.", "pooler.")
_OTHER_HEADS = ("bert.pooler.", "cls.", "classifier.", "qa_outputs.")
# Constants that older versions saved as if they were weights.
_BUFFERS = ("bert.embeddings.position_ids", "bert.embeddings.token_type_ids")
_LAYER = re.compile(r"bert\.encoder\.layer\.(\d+)\.")

# The config's field for each dimension of the weights that show them best.
_FIELDS = {
    "bert.embeddings.word_embeddings.weight": ("vocab_size", "hidden_size"),
    "bert.embeddings.position_embeddings.weight": ("max_position_embeddings", "hidden_size"),
    "bert.embeddings.token_type_embeddings.weight": ("type_vocab_size", "hidden_size"),
    "bert.encoder.layer.0.intermediate.dense.weight": ("intermediate_size", "hidden_size"),
    "classifier.weight": ("num_labels", "hidden_size"),
    "cls.predictions.decoder.weight": ("vocab_size", "hidden_size"),
}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Match:
    """The stored tensor of each parameter that has one, and the parameters that have none."""

    found: dict[str, torch.Tensor]
    missing: tuple[str, ...]


def head_form(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors, those of a bare BertModel under `bert.`.

    Raises ExportError when a name stands there both with `bert.` and without.
    """
    named: dict[str, torch.Tensor] = {}
    for stored, tensor in weights.items():
        name = f"bert.{stored}" if stored.startswith(_BASE) else stored
        if name in named:
            raise ExportError(f"the checkpoint holds {stored!r} twice, with 'bert.' and without")
        named[name] = tensor
    return named


def match(
    expected: Mapping[str, torch.Size],
    weights: Mapping[str, torch.Tensor],
    config: BertConfig,
    stored: Mapping[str, str],
) -> Match:
    """Pair parameters with stored weights; both have names in the form that heads have.

    `stored` has the names in the file, for errors, of weights that have another there.

    Weights of other heads are left out, and unknown ones beside the encoder too, with a warning.
    Raises ExportError when the config contradicts the weights: a layer, a shape or a part of the
    encoder that the other does not have.
    """
    _check_layers(weights, config)
    for name in weights:
        if name in expected or name in _BUFFERS or name.startswith(_OTHER_HEADS):
            continue
        if name.startswith("bert."):
            raise ExportError(
                f"the config contradicts the weights: they hold {name!r}, which a BERT of this "
                "config has not"
            )
        _log.warning("the weight %r belongs to no BERT head and is left out", name)
    found = {name: weights[name] for name in expected if name in weights}
    for name, tensor in found.items():
        _check_tensor(name, tensor, expected[name], config, stored.get(name, name))
    return Match(found, tuple(name for name in expected if name not in weights))


def _check_layers(weights: Mapping[str, torch.Tensor], config: BertConfig) -> None:
    layers = {int(found[1]) for name in weights if (found := _LAYER.match(name))}
    if layers and len(layers) != config.num_hidden_layers:
        raise ExportError(
            f"the config contradicts the weights: its num_hidden_layers is "
            f"{config.num_hidden_layers}, and they have {len(layers)} layers"
        )


def _check_tensor(
    name: str, tensor: torch.Tensor, shape: torch.Size, config: BertConfig, spelled: str
) -> None:
    if not tensor.is_floating_point():
        raise ExportError(
            f"the weight {spelled!r} is {tensor.dtype}: only float weights are exported"
        )
    if tensor.shape == shape:
        return
    stored, wanted = list(tensor.shape), list(shape)
    fields = _FIELDS.get(name, ())
    for field, here, there in zip(fields, wanted, stored, strict=False):
        if here != there and getattr(config, field) == here:
            raise ExportError(
                f"the config contradicts the weights: its {field} is {here}, and {spelled!r} has "
                f"{there} (shape {stored})"
            )
    raise ExportError(
        f"the config contradicts the weights: {spelled!r} has the shape {stored}, and the config "
        f"asks for {wanted}"
    )
