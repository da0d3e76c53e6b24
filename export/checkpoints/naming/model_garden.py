"""The names of BERT's weights in TensorFlow's model garden: paths through Python objects.

The encoder is a Keras model with numbered layers, and attention has an axis for heads. The heads of
the language model and of next sentence prediction are outside the encoder.
Source: tensorflow/models, official/nlp/modeling: networks/bert_encoder.py, layers/masked_lm.py,
layers/cls_head.py, models/bert_pretrainer.py.
"""

import re
from collections.abc import Collection

import torch
from transformers import BertConfig

from bertrt.export.architectures.architecture import Architecture
from bertrt.export.checkpoints.naming.layout import Shape, Variable, all_weights, plain, transposed

__all__ = ["keys", "skipped", "variables"]

_END = "/.ATTRIBUTES/VARIABLE_VALUE"
_LAYER = "layer_with_weights-"
# The encoder's parts in the order of their numbers; its layers follow, then the pooler.
_EMBEDDINGS = ("word_embeddings", "position_embeddings", "token_type_embeddings", "LayerNorm")
# The parts of a layer, by PyTorch's names.
_PARTS = {
    "attention.self.query": "_attention_layer/_query_dense",
    "attention.self.key": "_attention_layer/_key_dense",
    "attention.self.value": "_attention_layer/_value_dense",
    "attention.output.dense": "_attention_layer/_output_dense",
    "attention.output.LayerNorm": "_attention_layer_norm",
    "intermediate.dense": "_intermediate_dense",
    "output.dense": "_output_dense",
    "output.LayerNorm": "_output_layer_norm",
}
_HEADS = {
    "cls.predictions.transform.dense": "masked_lm/dense",
    "cls.predictions.transform.LayerNorm": "masked_lm/layer_norm",
    "cls.seq_relationship": "model/classification_heads/0/out_proj",
}
_BIAS = "masked_lm/output_bias.Sbias"
# Alternative names: of other versions of the model garden, and of a shared variable with two paths,
# of which TensorFlow stores the one that it found first.
_ALTERNATIVES = {
    "/_attention_output_dense/": "/_attention_layer/_output_dense/",
    "masked_lm/bias": _BIAS,
    "masked_lm/embedding_table": f"{_LAYER}0/embeddings",
}
# The decoder, which is always tied to the word embeddings, and heads that are not stored here.
_ABSENT = ("cls.predictions.decoder.", "classifier.", "qa_outputs.")
# A model that was trained on next sentence prediction has a pooler in that head. The encoder's own
# pooler then keeps its random initial values.
_POOLER = "bert.pooler.dense."
_TRAINED_POOLER = "next_sentence..pooler_dense"
_OWN_POOLER = re.compile(rf"{_LAYER}\d+/(kernel|bias)$")
_COUNTERS = re.compile(r"(save_counter|global_step|step)(/|$)|_CHECKPOINTABLE_OBJECT_GRAPH$")


def variables(architecture: Architecture) -> dict[str, Variable]:
    """Return every weight of a BERT with pretraining heads, by its path without root and end."""
    config = architecture.config
    table: dict[str, Variable] = {}
    for name, weight in all_weights(architecture).items():
        if name.startswith(_ABSENT):
            continue
        owner, _, last = name.rpartition(".")
        path = _path(owner, config)
        if name == "cls.predictions.bias":
            table[_BIAS] = plain(name, weight.shape)
        elif weight.layer is torch.nn.LayerNorm:
            path = f"{path}/{'gamma' if last == 'weight' else 'beta'}"
            table[path] = plain(name, weight.shape)
        elif weight.layer is torch.nn.Embedding:
            table[f"{path}/embeddings"] = plain(name, weight.shape)
        else:
            last = "kernel" if last == "weight" else last
            table[f"{path}/{last}"] = _dense(name, weight.shape, config)
            if name.startswith(_POOLER):
                table[f"{_TRAINED_POOLER}/{last}"] = table[f"{path}/{last}"]
    return table


def _path(owner: str, config: BertConfig) -> str:
    """Return the path of a layer, given its name in PyTorch."""
    if owner == "bert.pooler.dense":
        return f"{_LAYER}{len(_EMBEDDINGS) + config.num_hidden_layers}"
    if owner.startswith("bert.embeddings."):
        return f"{_LAYER}{_EMBEDDINGS.index(owner.removeprefix('bert.embeddings.'))}"
    if owner.startswith("bert.encoder.layer."):
        number, _, part = owner.removeprefix("bert.encoder.layer.").partition(".")
        return f"{_LAYER}{len(_EMBEDDINGS) + int(number)}/{_PARTS[part]}"
    return _HEADS.get(owner, "")


def _dense(name: str, shape: Shape, config: BertConfig) -> Variable:
    """Describe a linear layer's weight or bias; in attention, H is split into [N, D]."""
    usual = transposed(name, shape) if name.endswith("weight") else plain(name, shape)
    hidden = config.hidden_size
    heads = (config.num_attention_heads, hidden // config.num_attention_heads)
    split: Shape
    if ".attention.self." in name:
        split = (hidden, *heads) if name.endswith("weight") else heads
    elif name.endswith("attention.output.dense.weight"):
        split = (*heads, hidden)
    else:
        return usual
    joined = (hidden,) * len(shape)
    return Variable(name, split, lambda tensor: usual.restore(tensor.reshape(joined)))


def keys(stored: str) -> tuple[str, ...]:
    """Return the keys of `variables` that a stored name may mean, in order."""
    name = stored.removesuffix(_END)
    for root in ("model/", "encoder/"):
        if name.startswith(root + _LAYER):
            name = name.removeprefix(root)
    for alternative, usual in _ALTERNATIVES.items():
        name = name.replace(alternative, usual)
    return (name,)


def skipped(names: Collection[str]) -> set[str]:
    """Return the variables that are an optimizer's state, a counter, or an untrained pooler."""
    found = {name for name in names if _COUNTERS.match(name) or "optimizer/" in name}
    if any(name.startswith(_TRAINED_POOLER) for name in names):
        found |= {name for name in names if _OWN_POOLER.match(keys(name)[0])}
    return found
