"""The names of weights in transformers' Flax classes.

Source: transformers 4.57, modeling_flax_bert.py and modeling_flax_pytorch_utils.py.
"""

from collections.abc import Collection

import torch

from bertrt.export.architectures.architecture import Architecture
from bertrt.export.checkpoints.naming.layout import Variable, all_weights, plain, transposed

__all__ = ["keys", "skipped", "variables"]


def variables(architecture: Architecture) -> dict[str, Variable]:
    """Return every weight of an encoder with any head, by its keys in Flax, joined by dots."""
    table: dict[str, Variable] = {}
    for name, weight in all_weights(architecture).items():
        owner, _, last = name.rpartition(".")
        if last == "bias":
            table[name] = plain(name, weight.shape)
        elif weight.layer is torch.nn.LayerNorm:
            table[f"{owner}.scale"] = plain(name, weight.shape)
        elif weight.layer is torch.nn.Embedding:
            table[f"{owner}.embedding"] = plain(name, weight.shape)
        else:
            table[f"{owner}.kernel"] = transposed(name, weight.shape)
    return table


def keys(stored: str) -> tuple[str, ...]:
    """Return the keys of `variables` that a stored name may mean, in order.

    Names from msgpack files are joined by slashes, those from safetensors by dots. A training state
    has the weights under "params".
    """
    name = stored.replace("/", ".").removeprefix("params.")
    return (name,)


def skipped(names: Collection[str]) -> set[str]:
    """Return the arrays that are not weights: a training state's step and optimizer."""
    return {n for n in names if n == "step" or n.startswith(("opt_state/", "opt_state."))}
