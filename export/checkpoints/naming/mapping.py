"""Another framework's weights as PyTorch's: each stored array has its place, or the export ends.

Nothing is read before its name and its shape are known to be right.
"""

from collections.abc import Mapping
from types import ModuleType

import torch
from transformers import BertConfig

from bertrt.errors import ExportError
from bertrt.export.checkpoints.formats.stored import Stored
from bertrt.export.checkpoints.naming import flax, keras, model_garden, tf1
from bertrt.export.checkpoints.naming.layout import Variable

__all__ = ["SCHEMES", "from_scheme", "stored_names"]

# How weights are named. Each module has three functions: `variables` (a config to all weights, by
# keys of the scheme), `keys` (a stored name to the keys it may mean) and `skipped` (of stored
# names, those that are no weights).
SCHEMES: dict[str, ModuleType] = {
    "flax": flax,
    "keras": keras,
    "model garden": model_garden,
    "tensorflow 1": tf1,
}

_BASE = "bert."


def from_scheme(
    scheme: str, arrays: Mapping[str, Stored], config: BertConfig
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The weights by PyTorch's names, with its layouts, and the stored name of each.

    Raises ExportError, naming the stored array, for one that is no weight of a BERT of this
    config, has another shape, or is one that another array has other values for.
    """
    if config.num_hidden_layers > len(arrays):
        raise ExportError(
            f"the config contradicts the weights: its num_hidden_layers is "
            f"{config.num_hidden_layers}, and the checkpoint has {len(arrays)} arrays"
        )
    names = SCHEMES[scheme]
    table = _with_base(names.variables(config))
    skipped = names.skipped(arrays)
    weights: dict[str, torch.Tensor] = {}
    sources: dict[str, str] = {}
    for stored, array in arrays.items():
        if stored in skipped:
            continue
        variable = next((table[key] for key in names.keys(stored) if key in table), None)
        if variable is None:
            raise ExportError(
                f"the checkpoint holds {stored!r}, which is no weight of a BERT of this config: "
                "correct the config, or save the checkpoint without it"
            )
        _check_shape(stored, array.shape, variable)
        tensor = variable.restore(array.read()).contiguous()
        other = sources.setdefault(variable.name, stored)
        # Keras writes a layer that two others share into the group of each.
        if not torch.equal(weights.setdefault(variable.name, tensor), tensor):
            raise ExportError(
                f"the checkpoint holds {other!r} and {stored!r}, which are the same weight with "
                "different values: save it again with one of them"
            )
    return weights, sources


def stored_names(scheme: str, config: BertConfig) -> dict[str, str]:
    """What each of PyTorch's names would be called in such a checkpoint."""
    found: dict[str, str] = {}
    for key, variable in SCHEMES[scheme].variables(config).items():
        found.setdefault(variable.name, key)
    return found


def _with_base(table: Mapping[str, Variable]) -> dict[str, Variable]:
    """The table, with the names that a bare model has, which say nothing of "bert", besides."""
    bare = {key[len(_BASE) :]: table[key] for key in table if key.startswith(("bert.", "bert/"))}
    return {**bare, **table}


def _check_shape(stored: str, shape: tuple[int, ...], variable: Variable) -> None:
    wanted = variable.shape
    fits = len(shape) == len(wanted) and all(
        there is None or here == there for here, there in zip(shape, wanted, strict=True)
    )
    if not fits:
        asked = ", ".join("any" if size is None else str(size) for size in wanted)
        raise ExportError(
            f"the config contradicts the weights: {stored!r} has the shape {list(shape)}, and the "
            f"config asks for [{asked}]"
        )
