"""Convert another framework's weights to PyTorch's names and layouts, or refuse them.

An array is read only after its name and its shape were checked.
"""

from collections.abc import Mapping
from types import ModuleType

import torch

from bertrt.errors import ExportError
from bertrt.export.architectures.architecture import Architecture
from bertrt.export.checkpoints.formats.stored import Stored
from bertrt.export.checkpoints.naming import flax, keras, model_garden, tf1
from bertrt.export.checkpoints.naming.layout import Variable

__all__ = ["SCHEMES", "from_scheme"]

# The naming schemes. Each module has three functions: `variables` returns all weights of an encoder
# by the scheme's keys, `keys` the keys that a stored name may mean, and `skipped` the stored names
# that are not weights.
SCHEMES: dict[str, ModuleType] = {
    "flax": flax,
    "keras": keras,
    "model garden": model_garden,
    "tensorflow 1": tf1,
}

# The schemes of one encoder's own code; those of transformers have the names of any.
_OF_BERT = ("model garden", "tensorflow 1")


def from_scheme(
    scheme: str, arrays: Mapping[str, Stored], architecture: Architecture
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return the weights by PyTorch's names, in its layouts, and the stored name of each.

    A weight that is not stored has the name that it would have, for errors.

    Raises ExportError for a stored array that is not a weight of a model of this config, that has
    another shape, or that repeats a weight with other values, and for another encoder's checkpoint
    in a scheme that is BERT's.
    """
    if scheme in _OF_BERT and architecture.base != "bert":
        raise ExportError(
            "bertrt reads TensorFlow's .ckpt files of BERT only, and the config's model_type is "
            f"{architecture.config.model_type!r}: convert them with transformers 4.57, and export "
            "the result"
        )
    layers = getattr(architecture.config, architecture.layer_count)
    if layers > len(arrays):
        raise ExportError(
            f"the config contradicts the weights: its {architecture.layer_count} is {layers}, and "
            f"the checkpoint has {len(arrays)} arrays"
        )
    names = SCHEMES[scheme]
    variables = names.variables(architecture)
    table = _with_base(variables, architecture.base)
    skipped = names.skipped(arrays)
    weights: dict[str, torch.Tensor] = {}
    sources: dict[str, str] = {}
    for stored, array in arrays.items():
        if stored in skipped:
            continue
        variable = next((table[key] for key in names.keys(stored) if key in table), None)
        if variable is None:
            raise ExportError(
                f"the checkpoint has {stored!r}, which is not a weight of a model of this config: "
                "correct the config, or save the checkpoint without it"
            )
        _check_shape(stored, array.shape, variable)
        tensor = variable.restore(array.read()).contiguous()
        other = sources.setdefault(variable.name, stored)
        # Keras stores a layer that two others share in the group of each.
        if not torch.equal(weights.setdefault(variable.name, tensor), tensor):
            raise ExportError(
                f"the checkpoint has {other!r} and {stored!r}, which are the same weight with "
                "different values: save it again with one of them"
            )
    spelled: dict[str, str] = {}
    for key, variable in variables.items():
        spelled.setdefault(variable.name, key)
    return weights, spelled | sources


def _with_base(table: Mapping[str, Variable], base: str) -> dict[str, Variable]:
    """Add the names of a bare model, which lack the prefix `base`."""
    start = len(base) + 1
    bare = {key[start:]: table[key] for key in table if key.startswith((f"{base}.", f"{base}/"))}
    return {**bare, **table}


def _check_shape(stored: str, shape: tuple[int, ...], variable: Variable) -> None:
    expected = variable.shape
    fits = len(shape) == len(expected) and all(
        size is None or stored_size == size
        for stored_size, size in zip(shape, expected, strict=True)
    )
    if not fits:
        sizes = ", ".join("any" if size is None else str(size) for size in expected)
        raise ExportError(
            f"the config contradicts the weights: {stored!r} has the shape {list(shape)}, and the "
            f"config requires [{sizes}]"
        )
