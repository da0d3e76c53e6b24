"""Write checkpoints of transformers' TensorFlow and Flax classes of the encoders beside BERT."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import transformers
from flax.traverse_util import flatten_dict, unflatten_dict

from common import SIZES, finish, inputs, weights

ENCODERS = {
    "roberta": "Roberta",
    "xlm-roberta": "XLMRoberta",
    "camembert": "Camembert",
    "distilbert": "DistilBert",
    "electra": "Electra",
    "mpnet": "MPNet",
    "albert": "Albert",
}
HEADS = {
    "feature-extraction": "Model",
    "fill-mask": "ForMaskedLM",
    "text-classification": "ForSequenceClassification",
    "multiple-choice": "ForMultipleChoice",
    "token-classification": "ForTokenClassification",
    "question-answering": "ForQuestionAnswering",
}
# What a config has beside the common sizes.
OWN: dict[str, dict[str, Any]] = {
    "roberta": {"pad_token_id": 1},
    "xlm-roberta": {"pad_token_id": 1},
    "camembert": {"pad_token_id": 1},
    "distilbert": {"dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 12, "activation": "gelu"},
    "electra": {"embedding_size": 6},
    "mpnet": {"pad_token_id": 1},
    "albert": {"embedding_size": 6, "num_hidden_layers": 3, "inner_group_num": 2},
}
NO_TYPES = ("distilbert", "mpnet")


def main(root: Path) -> None:
    """Write each head of each encoder that the frameworks have, and one in each other format."""
    for encoder, stem in ENCODERS.items():
        for task, head in HEADS.items():
            if hasattr(transformers, f"TF{stem}{head}"):
                _write_keras(root / f"{encoder}-h5-{task}", encoder, task)
            if hasattr(transformers, f"Flax{stem}{head}"):
                _write_flax(root / f"{encoder}-msgpack-{task}", encoder, task)
        task = "question-answering"
        name, options = f"{encoder}-tf-safetensors-{task}", {"safe_serialization": True}
        _write_keras(root / name, encoder, task, "safetensors of TensorFlow", **options)
        if hasattr(transformers, f"Flax{stem}{HEADS[task]}"):
            name = f"{encoder}-flax-safetensors-{task}"
            _write_flax(root / name, encoder, task, "safetensors of Flax", **options)


def _config(encoder: str, task: str) -> Any:
    labels = 2 if task == "question-answering" else 3
    sizes = {**SIZES, "num_labels": labels, **OWN[encoder]}
    if encoder == "distilbert":
        known = ("vocab_size", "max_position_embeddings", "num_labels", *OWN[encoder])
        sizes = {name: sizes[name] for name in known}
    return getattr(transformers, f"{ENCODERS[encoder]}Config")(**sizes)


def _inputs(encoder: str, task: str) -> dict[str, Any]:
    feeds = inputs(choices=task == "multiple-choice")
    return {k: v for k, v in feeds.items() if k != "token_type_ids" or encoder not in NO_TYPES}


def _write_keras(
    folder: Path, encoder: str, task: str, form: str = "tf_model.h5", **options: Any
) -> None:
    model = getattr(transformers, f"TF{ENCODERS[encoder]}{HEADS[task]}")(_config(encoder, task))
    feeds = _inputs(encoder, task)
    model(feeds)
    random = np.random.default_rng(4)
    model.set_weights([weights(weight.name, weight.shape, random) for weight in model.weights])
    model.save_pretrained(folder, **options)
    answer = {name: value.numpy() for name, value in model(feeds).items()}
    finish(folder, task, form, feeds, answer)


def _write_flax(
    folder: Path, encoder: str, task: str, form: str = "flax_model.msgpack", **options: Any
) -> None:
    model = getattr(transformers, f"Flax{ENCODERS[encoder]}{HEADS[task]}")(_config(encoder, task))
    random = np.random.default_rng(7)
    flat = flatten_dict(model.params, sep="/")
    flat = {name: weights(name, value.shape, random) for name, value in sorted(flat.items())}
    params = unflatten_dict(flat, sep="/")
    model.save_pretrained(folder, params=params, **options)
    model.params = jax.tree_util.tree_map(jnp.asarray, params)
    feeds = _inputs(encoder, task)
    answer = {name: np.asarray(value) for name, value in model(**feeds).items()}
    finish(folder, task, form, feeds, answer)
