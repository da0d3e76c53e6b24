"""Write checkpoints with TensorFlow 1's Saver, with the names and forward pass of Google's BERT.

Source: google-research/bert as released, whose gelu is the exact one, by the error function.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from common import SIZES, finish, inputs, weights

tf1 = tf.compat.v1


def main(root: Path) -> None:
    """Write what run_pretraining, run_squad and run_classifier write, and one in parts."""
    _write(root / "tf1-pretraining", "pretraining", ["bert_model.ckpt"])
    _write(root / "tf1-fill-mask", "fill-mask", ["bert_model.ckpt"])
    _write(root / "tf1-next-sentence", "next-sentence-prediction", ["bert_model.ckpt"])
    _write(root / "tf1-squad", "question-answering", ["model.ckpt-9", "model.ckpt-11"])
    _write(root / "tf1-classifier", "text-classification", ["model.ckpt-343"])
    _write(root / "tf1-parts", "feature-extraction", ["bert_model.ckpt"], parts=3)


def _write(folder: Path, task: str, steps: list[str], *, parts: int = 1) -> None:
    folder.mkdir(parents=True)
    feeds = inputs()
    with tf1.Graph().as_default(), tf1.Session() as session:
        random = np.random.default_rng(2)
        model = _Bert(random, parts)
        outputs = model.answer(task, feeds)
        # Training writes the optimizer's state too; Google removed it from what it released.
        if steps[0].startswith("model"):
            model.add_optimizer()
        session.run(tf1.global_variables_initializer())
        saver = tf1.train.Saver()
        for step in steps:
            saver.save(session, str(folder / step), write_meta_graph=False)
            # The answers are computed with the weights of the last step.
            if step != steps[-1]:
                session.run(
                    [tf1.assign_add(variable, variable) for variable in tf1.trainable_variables()]
                )
        answers = session.run(outputs)
    (folder / "bert_config.json").write_text(json.dumps(SIZES) + "\n")
    finish(folder, task, "TensorFlow 1 checkpoint", feeds, answers)


class _Bert:
    """The graph, with each variable in the scope where Google's modeling.py creates it."""

    def __init__(self, random: np.random.Generator, parts: int) -> None:
        self.random = random
        self.parts = parts

    def variable(self, name: str, *shape: int) -> Any:
        value = weights(name, shape, self.random)
        # The parts must divide the rows, and training splits only large variables.
        cut = tf1.fixed_size_partitioner(self.parts) if self.parts > 1 and len(shape) > 1 else None
        initial = tf1.constant_initializer(value) if cut is None else _cut_from(value)
        made = tf1.get_variable(name, shape, tf.float32, initial, partitioner=cut)
        return tf.convert_to_tensor(made)

    def add_optimizer(self) -> None:
        for variable in tf1.trainable_variables():
            for slot in ("adam_m", "adam_v"):
                tf1.get_variable(
                    f"{variable.op.name}/{slot}",
                    variable.shape,
                    trainable=False,
                    initializer=tf1.zeros_initializer(),
                )
        tf1.train.get_or_create_global_step()

    def dense(self, name: str, x: Any, outputs: int) -> Any:
        kernel = self.variable(f"{name}/kernel", x.shape[-1], outputs)
        return tf.einsum("...i,io->...o", x, kernel) + self.variable(f"{name}/bias", outputs)

    def norm(self, name: str, x: Any) -> Any:
        mean, variance = tf.nn.moments(x, axes=[-1], keepdims=True)
        beta = self.variable(f"{name}/beta", x.shape[-1])
        gamma = self.variable(f"{name}/gamma", x.shape[-1])
        return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-12)

    def encode(self, feeds: dict[str, Any]) -> Any:
        hidden, heads = SIZES["hidden_size"], SIZES["num_attention_heads"]
        at = "bert/embeddings"
        self.words = self.variable(f"{at}/word_embeddings", SIZES["vocab_size"], hidden)
        types = self.variable(f"{at}/token_type_embeddings", SIZES["type_vocab_size"], hidden)
        positions = self.variable(
            f"{at}/position_embeddings", SIZES["max_position_embeddings"], hidden
        )
        length = feeds["input_ids"].shape[1]
        x = tf.gather(self.words, feeds["input_ids"]) + tf.gather(types, feeds["token_type_ids"])
        x = self.norm(f"{at}/LayerNorm", x + positions[:length])
        bias = (1.0 - tf.cast(feeds["attention_mask"], tf.float32))[:, None, None, :] * -10000.0
        for number in range(SIZES["num_hidden_layers"]):
            at = f"bert/encoder/layer_{number}"
            query, key, value = (
                tf.reshape(
                    self.dense(f"{at}/attention/self/{part}", x, hidden),
                    [-1, length, heads, hidden // heads],
                )
                for part in ("query", "key", "value")
            )
            scores = tf.einsum("bqnd,bknd->bnqk", query, key) / (hidden // heads) ** 0.5 + bias
            mixed = tf.einsum("bnqk,bknd->bqnd", tf.nn.softmax(scores), value)
            mixed = tf.reshape(mixed, [-1, length, hidden])
            mixed = self.dense(f"{at}/attention/output/dense", mixed, hidden)
            x = self.norm(f"{at}/attention/output/LayerNorm", x + mixed)
            inner = self.dense(f"{at}/intermediate/dense", x, SIZES["intermediate_size"])
            inner = self.dense(f"{at}/output/dense", tf.nn.gelu(inner, approximate=False), hidden)
            x = self.norm(f"{at}/output/LayerNorm", x + inner)
        return x

    def head(self, scope: str, x: Any, outputs: int) -> Any:
        kernel = self.variable(f"{scope}output_weights", outputs, SIZES["hidden_size"])
        return tf.einsum("...i,oi->...o", x, kernel) + self.variable(f"{scope}output_bias", outputs)

    def words_of(self, x: Any) -> Any:
        x = self.dense("cls/predictions/transform/dense", x, SIZES["hidden_size"])
        x = self.norm("cls/predictions/transform/LayerNorm", tf.nn.gelu(x, approximate=False))
        bias = self.variable("cls/predictions/output_bias", SIZES["vocab_size"])
        return tf.einsum("...i,oi->...o", x, self.words) + bias

    def answer(self, task: str, feeds: dict[str, Any]) -> dict[str, Any]:
        x = self.encode(feeds)
        pooled = tf.tanh(self.dense("bert/pooler/dense", x[:, 0], SIZES["hidden_size"]))
        if task == "feature-extraction":
            return {"last_hidden_state": x, "pooler_output": pooled}
        if task == "question-answering":
            logits = self.head("cls/squad/", x, 2)
            return {"start_logits": logits[..., 0], "end_logits": logits[..., 1]}
        if task == "text-classification":
            return {"logits": self.head("", pooled, 3)}
        words, next_sentence = self.words_of(x), self.head("cls/seq_relationship/", pooled, 2)
        if task == "pretraining":
            return {"prediction_logits": words, "seq_relationship_logits": next_sentence}
        return {"logits": words if task == "fill-mask" else next_sentence}


def _cut_from(value: Any) -> Any:
    """Return an initializer that gives each part its rows of the whole array."""

    def initial(shape: Any, dtype: Any = None, partition_info: Any = None) -> Any:
        start = partition_info.var_offset if partition_info else [0] * value.ndim
        return tf.constant(value[tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True))])

    return initial
