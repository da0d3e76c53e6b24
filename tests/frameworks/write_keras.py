"""Write checkpoints of transformers' TFBert classes: HDF5, safetensors, and shards."""

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
    """Write an HDF5 file of each head, and two heads in each other format."""
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
    feeds = inputs(choices=task == "multiple-choice")
    model(feeds)
    random = np.random.default_rng(0)
    model.set_weights([weights(weight.name, weight.shape, random) for weight in model.weights])
    model.save_pretrained(folder, **options)
    answer = model(feeds, use_cache=False) if task == "text-generation" else model(feeds)
    finish(folder, task, form, feeds, {name: value.numpy() for name, value in answer.items()})
