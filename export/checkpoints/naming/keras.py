"""The names of BERT's weights in transformers' TFBert classes.

Source: transformers 4.57, modeling_tf_bert.py and modeling_tf_pytorch_utils.py.
"""

from collections.abc import Collection

from transformers import BertConfig

from bertrt.export.checkpoints.naming.layout import Variable, all_weights, plain, transposed

__all__ = ["keys", "skipped", "variables"]

# Before transformers 3, the word embeddings were named like the other two.
_WORDS = "word_embeddings/weight:0"
_OLD_WORDS = "word_embeddings/embeddings:0"
# The number of parts of the longest key, bert/encoder/layer_._0/attention/output/LayerNorm/gamma:0.
_DEEPEST = 7
# Always tied to the word embeddings, so not stored.
_TIED = "cls.predictions.decoder.weight"


def variables(config: BertConfig) -> dict[str, Variable]:
    """Return every weight of a BERT with any head, by its TensorFlow name without model scopes."""
    table: dict[str, Variable] = {}
    for name, shape in all_weights(config).items():
        path = name.replace(".", "/").replace("encoder/layer/", "encoder/layer_._")
        owner, _, last = path.rpartition("/")
        if name == _TIED:
            continue
        if owner.endswith("LayerNorm"):
            key, variable = f"{owner}/{'gamma' if last == 'weight' else 'beta'}", plain(name, shape)
        elif owner.endswith("word_embeddings"):
            key, variable = path, plain(name, shape)
        elif owner.endswith("_embeddings"):
            key, variable = f"{owner}/embeddings", plain(name, shape)
        elif last == "weight":
            key, variable = f"{owner}/kernel", transposed(name, shape)
        else:
            key, variable = path, plain(name, shape)
        table[f"{key}:0"] = variable
    return table


def keys(stored: str) -> tuple[str, ...]:
    """Return the keys of `variables` that a stored name may mean, in order.

    A name starts with the scopes of the models around BERT and, in a file that is not sharded, with
    its group. These can be anything, so they are left out one by one. A model with two heads has
    "mlm___cls" where PyTorch has "cls".
    """
    name = stored.replace(_OLD_WORDS, _WORDS)
    parts = [part.rpartition("___")[2] for part in name.split("/") if part][-_DEEPEST:]
    return tuple("/".join(parts[start:]) for start in range(len(parts)))


def skipped(names: Collection[str]) -> set[str]:
    """Return the variables that are not weights: the optimizer's state, which has a group."""
    return {name for name in names if name.startswith("optimizer_weights/")}
