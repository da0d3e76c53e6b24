"""The names of weights in transformers' TensorFlow classes.

Source: transformers 4.57, modeling_tf_bert.py and modeling_tf_pytorch_utils.py.
"""

import re
from collections.abc import Collection

import torch

from bertrt.export.architectures.architecture import Architecture
from bertrt.export.checkpoints.naming.layout import Variable, all_weights, plain, transposed

__all__ = ["keys", "skipped", "variables"]

# Before transformers 3, the word embeddings were named like the other two.
_WORDS = "word_embeddings/weight:0"
_OLD_WORDS = "word_embeddings/embeddings:0"
# A number in a list of layers, which TensorFlow has as "layer_._0/" for "layer/0/".
_NUMBER = re.compile(r"/(\d+)/")
# The number of parts of the longest key, bert/encoder/layer_._0/attention/output/LayerNorm/gamma:0.
_DEEPEST = 7
# Always tied to the word embeddings, so not stored. By BERT's name.
_TIED = "cls.predictions.decoder.weight"
_NORM = {"weight": "gamma", "bias": "beta"}


def variables(architecture: Architecture) -> dict[str, Variable]:
    """Return every weight of an encoder with any head, by its TensorFlow name without scopes."""
    table: dict[str, Variable] = {}
    for name, weight in all_weights(architecture).items():
        if _TIED in architecture.bert_names(name, "fill-mask"):
            continue
        path = _NUMBER.sub(r"_._\1/", name.replace(".", "/"))
        owner, _, last = path.rpartition("/")
        variable = plain(name, weight.shape)
        if weight.layer is torch.nn.LayerNorm:
            last = _NORM[last]
        elif weight.layer is torch.nn.Embedding and not owner.endswith("word_embeddings"):
            last = "embeddings"
        elif weight.layer is torch.nn.Linear and last == "weight":
            last, variable = "kernel", transposed(name, weight.shape)
        table[f"{owner}/{last}:0"] = variable
    return table


def keys(stored: str) -> tuple[str, ...]:
    """Return the keys of `variables` that a stored name may mean, in order.

    A name starts with the scopes of the models around the encoder and, in a file that is not
    sharded, with its group. These can be anything, so they are left out one by one. A model with
    two heads has "mlm___cls" where PyTorch has "cls".
    """
    name = stored.replace(_OLD_WORDS, _WORDS)
    parts = [part.rpartition("___")[2] for part in name.split("/") if part][-_DEEPEST:]
    return tuple("/".join(parts[start:]) for start in range(len(parts)))


def skipped(names: Collection[str]) -> set[str]:
    """Return the variables that are not weights: the optimizer's state, which has a group."""
    return {name for name in names if name.startswith("optimizer_weights/")}
