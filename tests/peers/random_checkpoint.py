"""Checkpoints with random weights and the embedded model's tokenizer, which other packages open.

The scripts that write them run in the development environment, with this folder on PYTHONPATH.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer

import bertrt.export.demo

_DEMO = Path(bertrt.export.demo.__file__).parent
VOCABULARY: int = Tokenizer.from_file(str(_DEMO / "tokenizer.json")).get_vocab_size()


def write_checkpoint(
    folder: Path,
    class_name: str,
    *,
    seed: int = 0,
    files: Mapping[str, Any] | None = None,
    **changes: Any,
) -> None:
    """Write a checkpoint whose weights are so large that each text gets its own answer.

    Args:
        folder: the folder to make.
        class_name: transformers' class.
        seed: chooses the weights.
        files: what else to write, as JSON by the file's path in the folder, such as
            sentence-transformers' settings.
        changes: entries of the config.
    """
    fields: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 192,
        "max_position_embeddings": 64,
        "initializer_range": 0.1,
    }
    config = transformers.BertConfig(**{**fields, **changes})
    torch.manual_seed(seed)
    getattr(transformers, class_name)(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (folder / name).write_bytes((_DEMO / name).read_bytes())
    for name, value in (files or {}).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(value), encoding="utf-8")
