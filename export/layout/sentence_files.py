"""Write sentence-transformers' files in the spelling that most versions and runtimes read.

sentence-transformers 5.4 spells them differently; it reads the older spelling too, and Text
Embeddings Inference reads the older one only. A checkpoint without such files gets those of the
vector that bertrt makes, since each runtime would assume another pooling.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bertrt.artifact.manifest import EmbeddingFacts
from bertrt.export.checkpoints.module_list import MODULES_FILE, read_module_list
from bertrt.export.checkpoints.sentence_transformers import SETTINGS_FILE
from bertrt.export.checkpoints.vector_modules import POOLING_FLAGS, WEIGHT_FILES

__all__ = ["copy_settings", "write_sentence_files"]

_PACKAGE = "sentence_transformers.models"
_POOLING = "1_Pooling"
# Modules that act in training only.
_UNUSED = ("Dropout",)


def write_sentence_files(
    checkpoint: Path, hidden_size: int, facts: EmbeddingFacts, to: Path
) -> None:
    """Write a model's modules, limit and settings.

    Args:
        checkpoint: the checkpoint's folder.
        hidden_size: the size of its hidden states.
        facts: how it makes its vectors.
        to: the folder to write to, which holds the transformer itself.
    """
    modules = [("Transformer", ""), ("Pooling", _POOLING)]
    _write(to / _POOLING / "config.json", _pooling(hidden_size, facts))
    for kind, source in _later_modules(checkpoint):
        path = f"{len(modules)}_{kind}"
        if source is not None:
            _copy_module(source, to / path)
        modules.append((kind, path))
    listed = [
        {"idx": index, "name": str(index), "path": path, "type": f"{_PACKAGE}.{kind}"}
        for index, (kind, path) in enumerate(modules)
    ]
    _write(to / MODULES_FILE, listed)
    limit = {"max_seq_length": facts.max_length, "do_lower_case": False}
    _write(to / "sentence_bert_config.json", limit)
    copy_settings(checkpoint, to)


def copy_settings(checkpoint: Path, to: Path) -> None:
    """Copy the prompts and other settings of a model, if it has any beside a modules.json."""
    if (checkpoint / MODULES_FILE).is_file() and (checkpoint / SETTINGS_FILE).is_file():
        shutil.copyfile(checkpoint / SETTINGS_FILE, to / SETTINGS_FILE)


def _pooling(hidden_size: int, facts: EmbeddingFacts) -> dict[str, Any]:
    """Return the contents of the pooling's config.json.

    Flags have one order, so poolings that are concatenated in another one are a list, as
    sentence-transformers spells it since version 5.4.
    """
    if tuple(mode for mode in POOLING_FLAGS.values() if mode in facts.pooling) != facts.pooling:
        modes: dict[str, Any] = {"pooling_mode": list(facts.pooling)}
        size = {"embedding_dimension": hidden_size}
    else:
        modes = {flag: mode in facts.pooling for flag, mode in POOLING_FLAGS.items()}
        size = {"word_embedding_dimension": hidden_size}
    return {**size, **modes, "include_prompt": facts.include_prompt}


def _later_modules(checkpoint: Path) -> Sequence[tuple[str, Path | None]]:
    """Return the class of each module after the pooling and its folder, if it has one."""
    if not (checkpoint / MODULES_FILE).is_file():
        return [("Normalize", None)]
    modules = read_module_list(checkpoint / MODULES_FILE)[2:]
    return [(one.kind, checkpoint / one.path) for one in modules if one.kind not in _UNUSED]


def _copy_module(source: Path, to: Path) -> None:
    """Copy a module's settings and, in the best format that it has, its weights."""
    weights = [name for name in WEIGHT_FILES if (source / name).is_file()][:1]
    for name in ("config.json", *weights):
        if (source / name).is_file():
            to.mkdir(exist_ok=True)
            shutil.copyfile(source / name, to / name)


def _write(path: Path, data: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
