"""Complete the tokenizer's files for runtimes that read their limit and special tokens there."""

import json
from pathlib import Path
from typing import Any

__all__ = ["write_special_tokens_map", "write_text_limit"]

_CONFIG = "tokenizer_config.json"
_ROLES = ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
# What an entry says of a token, in transformers' order.
_FLAGS = ("content", "lstrip", "normalized", "rstrip", "single_word")


def write_special_tokens_map(folder: Path) -> None:
    """Write special_tokens_map.json, which FastEmbed before 0.9 requires.

    The tokens and their flags are those of the folder's tokenizer_config.json.
    """
    config = _read(folder / _CONFIG)
    flags = {token["content"]: token for token in config["added_tokens_decoder"].values()}

    def entry(token: str) -> Any:
        found = flags.get(token)
        return token if found is None else {name: found[name] for name in _FLAGS}

    tokens = {role: entry(config[role]) for role in _ROLES if config.get(role) is not None}
    others = config["additional_special_tokens"]
    if others:
        tokens["additional_special_tokens"] = [entry(token) for token in others]
    _write(folder / "special_tokens_map.json", tokens)


def write_text_limit(folder: Path, max_length: int) -> None:
    """Set the limit in tokens that other runtimes cut texts at."""
    config = _read(folder / _CONFIG)
    _write(folder / _CONFIG, {**config, "model_max_length": max_length})


def _read(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data


def _write(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
