"""Build transformers' own class of an encoder's head, with the weights of the BERT that is traced.

The parity check compares the two. The class's forward pass, with its own positions, bias and
activations, knows nothing of the parts that bertrt replaced in BERT.
"""

import copy
from typing import Any

import torch

from bertrt.export.architectures.architecture import Architecture
from bertrt.export.checkpoints.empty_model import empty_model, fill_buffers
from bertrt.export.heads import HeadSpec

__all__ = ["build_reference", "own_names"]


def build_reference(model: Any, head: HeadSpec, architecture: Architecture) -> torch.nn.Module:
    """Return the head's model in transformers, in eval mode; for BERT it is the model itself.

    Args:
        model: what `build_model` returned. The reference shares its weights.
        head: the head.
        architecture: the encoder. Its config gets the model's labels.
    """
    if architecture.base == "bert":
        return model
    config = architecture.config
    config.architectures = [architecture.class_name(head.class_name)]
    for field in ("tie_word_embeddings", "id2label", "label2id"):
        setattr(config, field, getattr(model.config, field))
    pooler = model.pooler is not None if head.class_name == "BertModel" else None
    reference, names = _empty_reference(head, architecture, pooler=pooler)
    bert = "bert." if head.class_name == "BertModel" else ""
    weights = model.state_dict()
    state = {own: weights[name.removeprefix(bert)] for own, (name, *_) in names.items()}
    reference.load_state_dict(state, strict=True, assign=True)
    fill_buffers(reference)
    if not architecture.has_token_types:
        reference.register_forward_pre_hook(_without_token_types, with_kwargs=True)
    return reference.eval()


def own_names(head: HeadSpec, architecture: Architecture) -> dict[str, str]:
    """Map BERT's names of all weights of a head to those of the encoder's own."""
    if architecture.base == "bert":
        return {}
    config = copy.deepcopy(architecture.config)
    config.num_labels = 2  # DistilBERT's question answering takes no other number
    pooler = True if head.class_name == "BertModel" else None
    _, names = _empty_reference(head, type(architecture)(config), pooler=pooler)
    return {bert: own for own, berts in names.items() for bert in berts}


def _empty_reference(
    head: HeadSpec, architecture: Architecture, *, pooler: bool | None
) -> tuple[Any, dict[str, tuple[str, ...]]]:
    """Return the model without weights, and BERT's names of its own, as heads have them."""
    pooler = pooler if architecture.has_pooler else None
    class_name = architecture.class_name(head.class_name)
    reference = empty_model(class_name, architecture.config, pooler=pooler)
    own = f"{architecture.base}." if head.class_name == "BertModel" else ""
    return reference, {
        name: architecture.bert_names(own + name, head.task) for name in reference.state_dict()
    }


def _without_token_types(
    module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Leave out the token types, which the encoder does not take."""
    return args, {name: value for name, value in kwargs.items() if name != "token_type_ids"}
