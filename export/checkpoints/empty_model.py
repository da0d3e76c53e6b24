"""Build a model of transformers without weights, and fill in the constants that no file has."""

from typing import Any

import torch
import transformers

from bertrt.errors import ExportError

__all__ = ["empty_model", "fill_buffers"]


def empty_model(class_name: str, config: Any, *, pooler: bool | None = None) -> Any:
    """Return a model whose parameters have shapes but no values.

    Args:
        class_name: transformers' class.
        config: its config.
        pooler: whether an encoder alone has a pooler; None for a class that does not ask.
    """
    options = {} if pooler is None else {"add_pooling_layer": pooler}
    with torch.device("meta"):
        return getattr(transformers, class_name)(config, **options)


def fill_buffers(model: torch.nn.Module) -> None:
    """Set the constants that are not stored: positions, and token types of zero."""
    for name, buffer in model.named_buffers():
        if buffer.device.type != "meta":
            continue
        owner, _, attribute = name.rpartition(".")
        if attribute == "position_ids":
            value = torch.arange(buffer.shape[-1]).expand(buffer.shape)
        elif attribute == "token_type_ids":
            value = torch.zeros(buffer.shape, dtype=torch.long)
        else:
            raise ExportError(f"this version of transformers has an unknown constant {name!r}")
        setattr(model.get_submodule(owner), attribute, value)
