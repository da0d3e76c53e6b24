"""List the weights of a BERT with any head, and the layouts in which other frameworks store them.

A size of None is the number of labels of a head: it is as many as were trained, whatever the config
says.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import BertConfig

__all__ = ["Shape", "Variable", "all_weights", "plain", "transposed"]

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Variable:
    """A weight as another framework stores it.

    Attributes:
        name: PyTorch's name.
        shape: the stored shape.
        restore: converts the stored array to PyTorch's layout.
    """

    name: str
    shape: Shape
    restore: Callable[[torch.Tensor], torch.Tensor]


def plain(name: str, shape: Shape) -> Variable:
    """Describe a weight that is stored in PyTorch's layout."""
    return Variable(name, shape, lambda tensor: tensor)


def transposed(name: str, shape: Shape) -> Variable:
    """Describe a linear layer's weight that is stored as [in, out]; PyTorch has [out, in]."""
    return Variable(name, shape[::-1], lambda tensor: tensor.T)


def all_weights(config: BertConfig) -> dict[str, Shape]:
    """Return PyTorch's names and shapes of the weights of the encoder, the pooler and all heads.

    Source: transformers/models/bert/modeling_bert.py.
    """
    hidden, inner, words = config.hidden_size, config.intermediate_size, config.vocab_size
    shapes: dict[str, Shape] = {
        "bert.embeddings.word_embeddings.weight": (words, hidden),
        "bert.embeddings.position_embeddings.weight": (config.max_position_embeddings, hidden),
        "bert.embeddings.token_type_embeddings.weight": (config.type_vocab_size, hidden),
        **_norm("bert.embeddings.LayerNorm", hidden),
    }
    for number in range(config.num_hidden_layers):
        layer = f"bert.encoder.layer.{number}"
        for part in ("query", "key", "value"):
            shapes |= _linear(f"{layer}.attention.self.{part}", hidden, hidden)
        shapes |= _linear(f"{layer}.attention.output.dense", hidden, hidden)
        shapes |= _norm(f"{layer}.attention.output.LayerNorm", hidden)
        shapes |= _linear(f"{layer}.intermediate.dense", inner, hidden)
        shapes |= _linear(f"{layer}.output.dense", hidden, inner)
        shapes |= _norm(f"{layer}.output.LayerNorm", hidden)
    return {
        **shapes,
        **_linear("bert.pooler.dense", hidden, hidden),
        **_linear("cls.predictions.transform.dense", hidden, hidden),
        **_norm("cls.predictions.transform.LayerNorm", hidden),
        "cls.predictions.bias": (words,),
        "cls.predictions.decoder.weight": (words, hidden),
        **_linear("cls.seq_relationship", 2, hidden),
        **_linear("classifier", None, hidden),
        **_linear("qa_outputs", None, hidden),
    }


def _linear(name: str, outputs: int | None, inputs: int) -> dict[str, Shape]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, size: int) -> dict[str, Shape]:
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}
