"""Write checkpoints as TensorFlow's model garden does: a Keras encoder saved by its object graph.

The layers have the attributes of the model garden's (official/nlp/modeling), and attention is
Keras' own, so TensorFlow itself makes the names.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from common import SIZES, finish, inputs, weights

HIDDEN, HEADS = SIZES["hidden_size"], SIZES["num_attention_heads"]


def main(root: Path) -> None:
    """Write the encoder of two versions of the model garden, and one with its training heads."""
    _write(root / "tf2-encoder", "feature-extraction", old=True)
    _write(root / "tf2-encoder-new", "feature-extraction", old=False)
    _write(root / "tf2-pretraining", "pretraining", old=False)


def _write(folder: Path, task: str, *, old: bool) -> None:
    folder.mkdir(parents=True)
    feeds = inputs()
    encoder = _encoder(old)
    items: dict[str, Any] = {"model" if old else "encoder": encoder}
    if task == "pretraining":
        masked = _MaskedLM(encoder.get_layer("word_embeddings").embeddings)
        pooler = tf_keras.layers.Dense(HIDDEN, activation="tanh")
        output = tf_keras.layers.Dense(2)
        masked(tf.zeros((1, 1, HIDDEN)))
        output(pooler(tf.zeros((1, HIDDEN))))
        classification = tf.Module()
        classification.out_proj = output
        model = tf.Module()
        model.classification_heads = [classification]
        items |= {"masked_lm": masked, "next_sentence.pooler_dense": pooler, "model": model}
    optimizer = tf_keras.optimizers.legacy.Adam()
    checkpoint = tf.train.Checkpoint(optimizer=optimizer, **items)
    random = np.random.default_rng(3)
    found = [variable for item in items.values() for variable in item.variables]
    for variable in {variable.ref(): variable for variable in found}.values():
        variable.assign(weights(variable.name, variable.shape, random))
    optimizer.apply_gradients([(tf.zeros_like(found[0]), found[0])])
    hidden, pooled = encoder(feeds)
    if task == "pretraining":
        pooled = output(pooler(hidden[:, 0]))
        answers = {"prediction_logits": masked(hidden), "seq_relationship_logits": pooled}
    else:
        answers = {"last_hidden_state": hidden, "pooler_output": pooled}
    checkpoint.save(str(folder / "bert_model.ckpt"))
    (folder / "bert_config.json").write_text(json.dumps(SIZES) + "\n")
    finish(
        folder, task, "TensorFlow 2 checkpoint", feeds, {k: v.numpy() for k, v in answers.items()}
    )


def _encoder(old: bool) -> Any:
    ids, mask, types = (
        tf_keras.Input((None,), dtype=tf.int32, name=name)
        for name in ("input_ids", "attention_mask", "token_type_ids")
    )
    words = _Embedding(SIZES["vocab_size"], name="word_embeddings")(ids)
    positions = _Positions(SIZES["max_position_embeddings"])(words)
    kinds = _Embedding(SIZES["type_vocab_size"])(types)
    x = tf_keras.layers.Add()([words, positions, kinds])
    x = tf_keras.layers.LayerNormalization(epsilon=1e-12)(x)
    for _ in range(SIZES["num_hidden_layers"]):
        x = _Block(old)(x, mask)
    pooled = tf_keras.layers.Dense(HIDDEN, activation="tanh")(x[:, 0])
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    return tf_keras.Model(feeds, [x, pooled])


class _Embedding(tf_keras.layers.Layer):
    def __init__(self, rows: int, **options: Any) -> None:
        super().__init__(**options)
        self.embeddings = self.add_weight("embeddings", (rows, HIDDEN))

    def call(self, ids: Any) -> Any:
        return tf.gather(self.embeddings, ids)


class _Positions(_Embedding):
    def call(self, x: Any) -> Any:
        return tf.broadcast_to(self.embeddings[: tf.shape(x)[1]], tf.shape(x))


class _OldAttention(tf_keras.layers.MultiHeadAttention):
    """Attention without its output layer, which was a layer beside it in earlier versions."""

    def _build_from_signature(self, *args: Any, **options: Any) -> None:
        super()._build_from_signature(*args, **options)
        self._output_dense = tf_keras.layers.Activation("linear")


class _Block(tf_keras.layers.Layer):
    def __init__(self, old: bool) -> None:
        super().__init__()
        kind = _OldAttention if old else tf_keras.layers.MultiHeadAttention
        self._attention_layer = kind(HEADS, HIDDEN // HEADS)
        if old:
            self._attention_output_dense = tf_keras.layers.EinsumDense(
                "abcd,cde->abe", output_shape=(None, HIDDEN), bias_axes="e"
            )
        self._attention_layer_norm = tf_keras.layers.LayerNormalization(epsilon=1e-12)
        self._intermediate_dense = tf_keras.layers.Dense(
            SIZES["intermediate_size"], activation="gelu"
        )
        self._output_dense = tf_keras.layers.Dense(HIDDEN)
        self._output_layer_norm = tf_keras.layers.LayerNormalization(epsilon=1e-12)
        self.old = old

    def call(self, x: Any, mask: Any) -> Any:
        mixed = self._attention_layer(x, x, attention_mask=mask[:, None, :])
        if self.old:
            mixed = self._attention_output_dense(mixed)
        x = self._attention_layer_norm(x + mixed)
        return self._output_layer_norm(x + self._output_dense(self._intermediate_dense(x)))


class _MaskedLM(tf_keras.layers.Layer):
    def __init__(self, table: Any) -> None:
        super().__init__()
        self.embedding_table = table

    def build(self, _: Any) -> None:
        self.dense = tf_keras.layers.Dense(HIDDEN, activation="gelu")
        self.layer_norm = tf_keras.layers.LayerNormalization(epsilon=1e-12)
        self.bias = self.add_weight("output_bias/bias", (SIZES["vocab_size"],))

    def call(self, x: Any) -> Any:
        x = self.layer_norm(self.dense(x))
        return tf.matmul(x, self.embedding_table, transpose_b=True) + self.bias
