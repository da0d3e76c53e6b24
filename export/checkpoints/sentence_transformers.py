"""Read what sentence-transformers saves beside a model: pooling, limit, prompts, similarity.

Both spellings are read, that of version 5.4 and later, and the older one. The facts and their order
of belief are those of sentence-transformers 6.2.
"""

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from bertrt.artifact.manifest import EmbeddingFacts
from bertrt.errors import ExportError
from bertrt.export.checkpoints.json_file import read_json
from bertrt.heads.similarity import SIMILARITIES
from bertrt.tokenizer import Tokenizer

__all__ = ["MODULES_FILE", "SETTINGS_FILE", "read_embedding", "settings_files"]

MODULES_FILE = "modules.json"
SETTINGS_FILE = "config_sentence_transformers.json"
# The settings of the transformer module, under the names that versions gave to the file.
_TRANSFORMER_FILES = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)

# The older flags of a pooling, in the order in which their vectors are concatenated.
_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
# Prompts that every model has, empty unless its settings say otherwise.
_PROMPTS = {"query": "", "document": ""}


def settings_files(names: Collection[str]) -> list[str]:
    """Return which of a model's files hold settings of sentence-transformers."""
    known = (MODULES_FILE, SETTINGS_FILE, *_TRANSFORMER_FILES)
    return [name for name in names if name in known or re.fullmatch(r"\d+_\w+/config\.json", name)]


def read_embedding(folder: Path, tokenizer: Tokenizer) -> EmbeddingFacts | None:
    """Return how a model makes its vectors; None for a folder without modules.json.

    Args:
        folder: the checkpoint's folder.
        tokenizer: its tokenizer, whose limit no text exceeds.

    Raises ExportError for a damaged file, and for a module or setting that bertrt does not have.
    """
    if not (folder / MODULES_FILE).is_file():
        return None
    modules = _modules(folder / MODULES_FILE)
    kinds = [kind for kind, _ in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or kinds[2:] not in ([], ["Normalize"]):
        known = ("Transformer", "Pooling", "Normalize")
        other = next((kind for kind in kinds if kind not in known), None)
        problem = f"a {other} module" if other else f"the modules {', '.join(kinds)}"
        raise ExportError(
            f"{MODULES_FILE} has {problem}, and bertrt exports a Transformer, a Pooling and "
            "optionally a Normalize: remove the file to export the hidden states alone"
        )
    settings = read_json(folder / SETTINGS_FILE) if (folder / SETTINGS_FILE).is_file() else {}
    transformer = _transformer(folder)
    if transformer.get("do_lower_case") and not _lower_cases(tokenizer):
        raise ExportError(
            "sentence-transformers' settings say do_lower_case, and the tokenizer keeps capitals: "
            "set do_lower_case in tokenizer_config.json to true as well"
        )
    pooling, include_prompt = _pooling(folder / modules[1][1] / "config.json")
    return EmbeddingFacts(
        pooling=pooling,
        include_prompt=include_prompt,
        normalize="Normalize" in kinds,
        dimensions=_dimensions(settings),
        max_length=min(_max_seq_length(transformer) or tokenizer.max_length, tokenizer.max_length),
        prompts=_prompts(settings),
        default_prompt_name=_default_prompt(settings),
        similarity=_similarity(settings),
    )


def _modules(path: Path) -> list[tuple[str, str]]:
    """Return the class, without its package, and the folder of each module."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return [(str(one["type"]).rpartition(".")[2], str(one["path"])) for one in entries]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise ExportError(f"{path.name} cannot be read ({error}): download it again") from error


def _pooling(path: Path) -> tuple[tuple[str, ...], bool]:
    """Return the poolings, and whether a prompt's tokens are pooled."""
    if not path.is_file():
        raise ExportError(f"{path.parent.name!r} has no {path.name}: download it again")
    config = read_json(path)
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [mode for flag, mode in _FLAGS.items() if config.get(flag)] or ["mean"]
    modes = [modes] if isinstance(modes, str) else modes
    for mode in modes:
        if mode not in _FLAGS.values():
            raise ExportError(
                f"the pooling in {path.parent.name}/{path.name} is {mode!r}: bertrt has "
                f"{', '.join(_FLAGS.values())}"
            )
    return tuple(modes), bool(config.get("include_prompt", True))


def _transformer(folder: Path) -> dict[str, Any]:
    """Return the settings of the transformer module; empty without a file of them."""
    for name in _TRANSFORMER_FILES:
        if (folder / name).is_file():
            return read_json(folder / name)
    return {}


def _lower_cases(tokenizer: Tokenizer) -> bool:
    return tokenizer.encode("ABC").ids == tokenizer.encode("abc").ids


def _max_seq_length(transformer: Mapping[str, Any]) -> int | None:
    length = transformer.get("max_seq_length")
    if length is None:
        return None
    if isinstance(length, bool) or not isinstance(length, int) or length < 1:
        raise ExportError(f"max_seq_length is {length!r}: it must be a whole number above 0")
    return length


def _dimensions(settings: Mapping[str, Any]) -> int | None:
    size = settings.get("truncate_dim")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise ExportError(
            f"truncate_dim in {SETTINGS_FILE} is {size!r}: it must be a whole number above 0"
        )
    return size


def _prompts(settings: Mapping[str, Any]) -> dict[str, str]:
    prompts = settings.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(
        isinstance(prompt, (str, type(None))) for prompt in prompts.values()
    ):
        raise ExportError(
            f"prompts in {SETTINGS_FILE} are {prompts!r}: it must map names to strings"
        )
    return {**_PROMPTS, **{name: prompt or "" for name, prompt in prompts.items()}}


def _default_prompt(settings: Mapping[str, Any]) -> str | None:
    name, prompts = settings.get("default_prompt_name"), _prompts(settings)
    if name is not None and name not in prompts:
        raise ExportError(
            f"default_prompt_name in {SETTINGS_FILE} is {name!r}, and its prompts are "
            f"{', '.join(prompts)}: correct it"
        )
    return name


def _similarity(settings: Mapping[str, Any]) -> str:
    name = settings.get("similarity_fn_name") or "cosine"
    if name not in SIMILARITIES:
        raise ExportError(
            f"similarity_fn_name in {SETTINGS_FILE} is {name!r}: bertrt has "
            f"{', '.join(SIMILARITIES)}"
        )
    return str(name)
