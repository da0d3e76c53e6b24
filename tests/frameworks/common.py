"""The sizes, inputs and random weights of the tiny BERT that every writer of checkpoints uses.

Runs in an environment with TensorFlow and Flax (see frameworks.sh), so nothing imports bertrt.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz,.!?"]
VOCABULARY += ["##s", "##ed", "##ing", "paris", "france"]
SIZES: dict[str, Any] = {
    "hidden_act": "gelu",
    "hidden_size": 8,
    "initializer_range": 0.02,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "type_vocab_size": 2,
    "vocab_size": len(VOCABULARY),
}


def weights(name: str, shape: tuple[int, ...], random: np.random.Generator) -> Any:
    """Return random float32 weights, so far from the initial ones that each changes the answers."""
    values = random.normal(size=shape)
    scale = name.endswith(("gamma", "gamma:0", "scale"))
    return (1 + 0.2 * values if scale else 0.4 * values).astype(np.float32)


def inputs(*, choices: bool = False) -> dict[str, Any]:
    """Return three texts of up to seven tokens, int32 [3, 7], or two questions of three choices."""
    random = np.random.default_rng(7)
    leading = (2, 3) if choices else (3,)
    mask = np.ones((*leading, 7), np.int32)
    mask[..., -1, 4:] = 0
    types = np.zeros((*leading, 7), np.int32)
    types[..., 3:] = 1
    ids = random.integers(5, SIZES["vocab_size"], (*leading, 7)).astype(np.int32)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def finish(
    folder: Path, task: str, form: str, feeds: dict[str, Any], answers: dict[str, Any]
) -> None:
    """Write the vocabulary, the inputs and the framework's outputs beside a checkpoint.

    TensorFlow's `checkpoint` file is changed to name a folder that does not exist, as it does after
    the checkpoint was moved.
    """
    note = folder / "checkpoint"
    if note.exists():
        note.write_text(re.sub(r': "(.*/)?', ': "/on/another/machine/', note.read_text()))
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    arrays = {f"in {name}": value for name, value in feeds.items()}
    arrays |= {f"out {name}": np.asarray(value, np.float32) for name, value in answers.items()}
    np.savez_compressed(folder / "answers.npz", **arrays)
    (folder / "case.json").write_text(json.dumps({"task": task, "format": form}) + "\n")
