"""Write checkpoints of transformers' FlaxBert classes: msgpack, safetensors, and shards."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import transformers
from flax.traverse_util import flatten_dict, unflatten_dict

from common import SIZES, finish, inputs, weights

HEADS = {
    "feature-extraction": "FlaxBertModel",
    "pretraining": "FlaxBertForPreTraining",
    "text-generation": "FlaxBertForCausalLM",
    "fill-mask": "FlaxBertForMaskedLM",
    "next-sentence-prediction": "FlaxBertForNextSentencePrediction",
    "text-classification": "FlaxBertForSequenceClassification",
    "multiple-choice": "FlaxBertForMultipleChoice",
    "token-classification": "FlaxBertForTokenClassification",
    "question-answering": "FlaxBertForQuestionAnswering",
}


def main(root: Path) -> None:
    """Write a msgpack file of each head, and two heads in each other format."""
    for task in HEADS:
        _write(root / f"msgpack-{task}", task, "flax_model.msgpack")
    for task in ("pretraining", "multiple-choice"):
        form = "flax_model.msgpack"
        _write(root / f"msgpack-shards-{task}", task, form, max_shard_size="1kB")
        _write(root / f"msgpack-bfloat16-{task}", task, form, half=True)
        form = "safetensors of Flax"
        _write(root / f"flax-safetensors-{task}", task, form, safe_serialization=True)


def _write(folder: Path, task: str, form: str, *, half: bool = False, **options: Any) -> None:
    labels = 2 if task == "question-answering" else 3
    config = transformers.BertConfig(
        **SIZES, num_labels=labels, is_decoder=task == "text-generation"
    )
    model = getattr(transformers, HEADS[task])(config)
    random = np.random.default_rng(1)
    flat = flatten_dict(model.params, sep="/")
    flat = {name: weights(name, value.shape, random) for name, value in sorted(flat.items())}
    params = unflatten_dict(flat, sep="/")
    if half:
        params = jax.tree_util.tree_map(lambda array: jnp.asarray(array, jnp.bfloat16), params)
    model.save_pretrained(folder, params=params, **options)
    # Compute the answers in float32, from the rounded weights.
    model.params = jax.tree_util.tree_map(lambda array: jnp.asarray(array, jnp.float32), params)
    feeds = inputs(choices=task == "multiple-choice")
    answer = model(**feeds)
    finish(folder, task, form, feeds, {name: np.asarray(value) for name, value in answer.items()})
