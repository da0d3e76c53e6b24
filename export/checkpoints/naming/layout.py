"""List the weights of an encoder with any head, and the layouts in which others store them.

A size of None is the number of labels of a head: it is as many as were trained, whatever the config
says.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers

from bertrt.export.architectures.architecture import Architecture
from bertrt.export.checkpoints.empty_model import empty_model
from bertrt.export.heads import HEADS

__all__ = ["Shape", "Variable", "Weight", "all_weights", "plain", "transposed"]

Shape = tuple[int | None, ...]

# The layers that have a row for each label.
_LABELED = ("classifier", "classifier.out_proj", "qa_outputs")


@dataclass(frozen=True)
class Weight:
    """A weight in PyTorch: its shape, and the class of the layer that it belongs to."""

    shape: Shape
    layer: type[torch.nn.Module]


@dataclass(frozen=True)
class Variable:
    """A weight as another framework stores it.

    Attributes:
        name: PyTorch's name.
        shape: the stored shape.
        restore: converts the stored array to PyTorch's layout.
    """

    name: str
    shape: Shape
    restore: Callable[[torch.Tensor], torch.Tensor]


def plain(name: str, shape: Shape) -> Variable:
    """Describe a weight that is stored in PyTorch's layout."""
    return Variable(name, shape, lambda tensor: tensor)


def transposed(name: str, shape: Shape) -> Variable:
    """Describe a linear layer's weight that is stored as [in, out]; PyTorch has [out, in]."""
    return Variable(name, shape[::-1], lambda tensor: tensor.T)


def all_weights(architecture: Architecture) -> dict[str, Weight]:
    """Return the weights of the encoder, its pooler and all heads, by the names in heads.

    They are those of transformers' classes.
    """
    config = architecture.config
    encoder = empty_model(
        architecture.class_name("BertModel"), config, pooler=architecture.has_pooler or None
    )
    base = f"{architecture.base}."
    found = {base + name: weight for name, weight in _weights(encoder).items()}
    # The layers are known, so one is enough; DistilBERT's question answering takes two labels only.
    short = copy.deepcopy(config)
    short.num_hidden_layers, short.num_labels = 1, 2
    for head in HEADS:
        class_name = architecture.class_name(head.class_name)
        # A decoder has no weights that a masked language model lacks.
        if head.task != "text-generation" and hasattr(transformers, class_name):
            weights = _weights(empty_model(class_name, short))
            found |= {name: one for name, one in weights.items() if not name.startswith(base)}
    return found


def _weights(model: Any) -> dict[str, Weight]:
    found = {}
    for name, value in model.state_dict().items():
        owner = name.rpartition(".")[0]
        shape: Shape = tuple(value.shape)
        if owner in _LABELED:
            shape = (None, *shape[1:])
        found[name] = Weight(shape, type(model.get_submodule(owner)))
    return found
