"""Replace the parts of BERT's language model's head that differ in size or activation."""

from typing import Any

import torch

__all__ = ["replace_activation", "resize_transform"]


def replace_activation(model: Any, activation: torch.nn.Module) -> None:
    """Set the activation of the head's first layer, if the model has a language model's head."""
    if hasattr(model, "cls"):
        model.cls.predictions.transform.transform_act_fn = activation


def resize_transform(model: Any, size: int) -> None:
    """Give the head's first layer `size` outputs, as many as the word embeddings have columns."""
    if not hasattr(model, "cls"):
        return
    predictions, config = model.cls.predictions, model.config
    predictions.transform.dense = torch.nn.Linear(config.hidden_size, size)
    predictions.transform.LayerNorm = torch.nn.LayerNorm(size, eps=config.layer_norm_eps)
    predictions.decoder = torch.nn.Linear(size, config.vocab_size)
