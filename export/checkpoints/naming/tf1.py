"""The names of BERT's weights in Google's original code for TensorFlow 1.

Source: google-research/bert, modeling.py, run_pretraining.py, run_squad.py, run_classifier.py.
"""

import re
from collections.abc import Collection

import torch

from bertrt.export.architectures.architecture import Architecture
from bertrt.export.checkpoints.naming.layout import Variable, all_weights, plain, transposed

__all__ = ["keys", "skipped", "variables"]

# The heads' weights, which Google's code multiplies transposed, so they have PyTorch's layout.
_HEADS = {
    "cls.predictions.bias": "cls/predictions/output_bias",
    "cls.seq_relationship.weight": "cls/seq_relationship/output_weights",
    "cls.seq_relationship.bias": "cls/seq_relationship/output_bias",
    "qa_outputs.weight": "cls/squad/output_weights",
    "qa_outputs.bias": "cls/squad/output_bias",
    # run_classifier.py gives its variables no scope.
    "classifier.weight": "output_weights",
    "classifier.bias": "output_bias",
}
# Always tied to the word embeddings, so not stored.
_TIED = "cls.predictions.decoder."

_COUNTERS = ("global_step", "beta1_power", "beta2_power", "_CHECKPOINTABLE_OBJECT_GRAPH")
# Variables of Google's optimizer, NVIDIA's and TensorFlow's.
_OPTIMIZER = re.compile(r"(^|/)((adam|lamb)_[mv]|Adam(_1)?|Momentum|\w*Optimizer(_\d+)?)(/|$)")


def variables(architecture: Architecture) -> dict[str, Variable]:
    """Return every weight of a BERT with any head, by its name in Google's checkpoints."""
    table: dict[str, Variable] = {}
    for name, weight in all_weights(architecture).items():
        path = name.replace("encoder.layer.", "encoder.layer_").replace(".", "/")
        owner, _, last = path.rpartition("/")
        variable = plain(name, weight.shape)
        if name.startswith(_TIED):
            continue
        if name in _HEADS:
            path = _HEADS[name]
        elif weight.layer is torch.nn.LayerNorm:
            path = f"{owner}/{'gamma' if last == 'weight' else 'beta'}"
        elif weight.layer is torch.nn.Embedding:
            path = owner
        elif last == "weight":
            path, variable = f"{owner}/kernel", transposed(name, weight.shape)
        table[path] = variable
    return table


def keys(stored: str) -> tuple[str, ...]:
    """Return the keys of `variables` that a stored name may mean, in order."""
    return (stored,)


def skipped(names: Collection[str]) -> set[str]:
    """Return the variables that are not weights: an optimizer's state and counters."""
    return {name for name in names if name in _COUNTERS or _OPTIMIZER.search(name)}
