"""Replace the parts of BERT's language model's head that differ in size or activation."""

from typing import Any

import torch
from transformers.activations import ACT2FN

__all__ = ["resize_transform", "set_activation"]


def resize_transform(model: Any, size: int) -> None:
    """Give the head's first layer `size` outputs, as many as the word embeddings have columns."""
    if not hasattr(model, "cls"):
        return
    predictions, config = model.cls.predictions, model.config
    predictions.transform.dense = torch.nn.Linear(config.hidden_size, size)
    predictions.transform.LayerNorm = torch.nn.LayerNorm(size, eps=config.layer_norm_eps)
    predictions.decoder = torch.nn.Linear(size, config.vocab_size)


def set_activation(model: Any) -> None:
    """Give the head's first layer the activation `transform_act` of the model's config."""
    if hasattr(model, "cls"):
        activation = ACT2FN[model.config.transform_act]
        model.cls.predictions.transform.transform_act_fn = activation
