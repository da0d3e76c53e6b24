"""Checkpoints of transformers' TFBert classes: HDF5 and safetensors, whole and in shards."""

from pathlib import Path
from typing import Any

import numpy as np
import transformers

from common import SIZES, finish, inputs, weights

HEADS = {
    "feature-extraction": "TFBertModel",
    "pretraining": "TFBertForPreTraining",
    "text-generation": "TFBertLMHeadModel",
    "fill-mask": "TFBertForMaskedLM",
    "next-sentence-prediction": "TFBertForNextSentencePrediction",
    "text-classification": "TFBertForSequenceClassification",
    "multiple-choice": "TFBertForMultipleChoice",
    "token-classification": "TFBertForTokenClassification",
    "question-answering": "TFBertForQuestionAnswering",
}


def main(root: Path) -> None:
    """Write a checkpoint of each head, and of two heads in each other form."""
    for task in HEADS:
        _write(root / f"h5-{task}", task, "tf_model.h5")
    for task in ("pretraining", "question-answering"):
        _write(root / f"h5-shards-{task}", task, "tf_model.h5", max_shard_size="1kB")
        form = "safetensors of TensorFlow"
        _write(root / f"tf-safetensors-{task}", task, form, safe_serialization=True)
        options = {"safe_serialization": True, "max_shard_size": "1kB"}
        _write(root / f"tf-safetensors-shards-{task}", task, form, **options)


def _write(folder: Path, task: str, form: str, **options: Any) -> None:
    labels = 2 if task == "question-answering" else 3
    config = transformers.BertConfig(
        **SIZES, num_labels=labels, is_decoder=task == "text-generation"
    )
    model = getattr(transformers, HEADS[task])(config)
    given = inputs(choices=task == "multiple-choice")
    model(given)
    random = np.random.default_rng(0)
    model.set_weights([weights(one.name, one.shape, random) for one in model.weights])
    model.save_pretrained(folder, **options)
    answer = model(given, use_cache=False) if task == "text-generation" else model(given)
    finish(folder, task, form, given, {name: value.numpy() for name, value in answer.items()})
