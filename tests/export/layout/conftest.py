"""A sentence encoder as sentence-transformers saves it, and its exports in the hub's layout."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

# As version 5.4 of sentence-transformers and later spells them.
MODULES = (
    "sentence_transformers.base.modules.transformer.Transformer",
    "sentence_transformers.sentence_transformer.modules.pooling.Pooling",
    "sentence_transformers.base.modules.dense.Dense",
    "sentence_transformers.base.modules.normalize.Normalize",
)


@pytest.fixture(scope="session")
def encoder(make_checkpoint: Callable[..., Path], made_once: Callable[..., Path]) -> Path:
    """A checkpoint with CLS pooling, a Dense, a limit of 12 tokens and prompts, newly spelled."""
    return made_once("encoder", "hub", lambda folder: _write(make_checkpoint("BertModel"), folder))


def _write(checkpoint: Path, folder: Path) -> None:
    shutil.copytree(checkpoint, folder)
    entries = [
        {
            "idx": index,
            "name": str(index),
            "path": f"{index}_{name.rpartition('.')[2]}" if index else "",
            "type": name,
        }
        for index, name in enumerate(MODULES)
    ]
    files: dict[str, Any] = {
        "modules.json": entries,
        "sentence_bert_config.json": {"max_seq_length": 12, "do_lower_case": False},
        "config_sentence_transformers.json": {
            "prompts": {"query": "who is ", "document": ""},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
        "1_Pooling/config.json": {
            "embedding_dimension": 32,
            "pooling_mode": "cls",
            "include_prompt": True,
        },
        "2_Dense/config.json": {
            "in_features": 32,
            "out_features": 24,
            "bias": True,
            "activation_function": "torch.nn.modules.activation.Tanh",
        },
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    torch.manual_seed(5)
    layer = {"linear.weight": torch.randn(24, 32) * 0.3, "linear.bias": torch.randn(24) * 0.3}
    safetensors.torch.save_file(layer, folder / "2_Dense" / "model.safetensors")


@pytest.fixture(scope="session")
def hub(encoder: Path, made_once: Callable[..., Path]) -> Path:
    """The encoder in the hub's layout, float32."""
    from bertrt.export import export

    return made_once("hub", "float32", lambda to: export(encoder, to, layout="hub"))


@pytest.fixture(scope="session")
def hub_int8(encoder: Path, made_once: Callable[..., Path]) -> Path:
    """The same with an int8 graph beside it."""
    from bertrt.export import export

    return made_once("hub", "int8", lambda to: export(encoder, to, layout="hub", dtype="int8"))
